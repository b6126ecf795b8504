"""Exports a trained model as two ONNX files, for programs without torch."""
