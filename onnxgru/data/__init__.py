"""Data sets: reading and checking them, metrics, and intervals of figures."""
