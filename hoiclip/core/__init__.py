"""Rules and records common to training, evaluation and runtime; importing any of it needs no torch."""
