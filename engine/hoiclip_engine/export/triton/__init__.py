"""A model repository for Triton Inference Server: an image goes in, triplets come out.

`repository.py` arranges an exported graph into it, with a configuration for every model. Each Python model of the
repository is a class of `models.py`, which runs inside the server and needs no torch.
"""
