"""Measurements, run by hand; their output is kept in ``benchmarks/README.md``."""
