"""The search over widths of one model."""
