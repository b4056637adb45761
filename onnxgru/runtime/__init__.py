"""Exact evaluation of integer programs, and their verification in ONNX runtimes."""
