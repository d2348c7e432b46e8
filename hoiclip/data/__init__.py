"""Datasets: annotations and their formats, images, samples, augmentation, checks."""
