"""Compiled models behind one protocol: OpenVINO, ONNX Runtime, torch, TensorRT and TensorRT-RTX."""
