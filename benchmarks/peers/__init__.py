"""What a user would use instead of onnxgru, on the same model and data; see `__main__`."""
