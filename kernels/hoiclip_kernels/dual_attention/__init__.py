"""The interaction decoder's two cross-attentions. Needs torch."""

from hoiclip_kernels.dual_attention.reference import dual_attention

__all__ = ["dual_attention"]
