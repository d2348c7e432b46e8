"""Official checkpoints and foreign state dicts, converted into model files; text embeddings."""
