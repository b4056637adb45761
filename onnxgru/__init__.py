"""Shrink trained GRUs to verified integer ONNX graphs, each operator at its own bit-width."""

__version__ = "0.1.0"
