"""Compiled kernels: loops over units, from which `kernel` and `sequence` print source for Numba."""
