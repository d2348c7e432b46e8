"""Exported graphs of a model: ONNX files, their metadata, bundles that run without torch, repositories for Triton."""
