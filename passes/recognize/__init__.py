"""From recurrent nodes to layers of bound operators: one ONNX operator a file."""
