"""Evaluation that needs the engine: videos, contact sheets, and training with contact sheets."""
