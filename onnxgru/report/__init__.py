"""The report: its figures, text, page and pictures."""
