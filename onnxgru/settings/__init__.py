"""The settings: each is declared once, in the file of its theme.

Flags, help, files of settings, checks, the page ``docs/settings.md`` and the key of a search's
journal are derived from the declaration. Nothing heavy is imported.
"""
