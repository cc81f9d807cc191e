"""Rules: one ONNX operator each."""
