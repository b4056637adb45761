"""What needs torch: exporting trained modules to ONNX."""
