"""The interaction decoder's two cross-attentions. Needs torch."""

from hoiclip_kernels.dual_attention.reference import attend, dual_attention

__all__ = ["attend", "dual_attention"]
