"""A model repository for Triton Inference Server: a picture goes in, triplets come out.

`repository.py` arranges an exported graph into it, with what `configs.py` says of every model. The files `*_model.py`
are copied into it and run inside the server; `serving.py` is what they share, and needs no torch.
"""
