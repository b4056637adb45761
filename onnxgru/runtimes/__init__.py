"""Runtimes that take ONNX: which there are, and how a graph runs in each, in a process of its own.

Nothing here imports another part of onnxgru: the files of ``adapters`` also run in the Python
environment of a runtime, where onnxgru is not installed.
"""
