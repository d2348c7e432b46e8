"""TensorRT and TensorRT-RTX: the backend, the builder and its subprocess, the runtime, and the library they share."""
