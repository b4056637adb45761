"""Data sets: what is read, how it is judged, and how sure a figure is."""
