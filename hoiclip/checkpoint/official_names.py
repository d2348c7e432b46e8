"""Names of tensors in official checkpoints and in our model files, in both directions."""

from __future__ import annotations

import re

_LAYER = (
    ("self_attn.out_proj.", "{self}.out."),
    ("self_attn.", "{self}."),
    ("multihead_attn.out_proj.", "cross_attention.out."),
    ("multihead_attn.", "cross_attention."),
    ("linear1.", "feedforward.linear1."),
    ("linear2.", "feedforward.linear2."),
    ("norm1.", "norm1."),
    ("norm2.", "norm2."),
    ("norm3.", "norm3."),
)


def _layers(official: str, ours: str, self_attention: str) -> list[tuple[str, str]]:
    return [
        (f"{official}.layers.{{n}}.{old}", f"{ours}.layers.{{n}}.{new.replace('{self}', self_attention)}")
        for old, new in _LAYER
    ]


_BLOCK = "clip_model.visual.transformer.resblocks.{n}."
RENAMED: list[tuple[str, str]] = [
    ("logit_scale", "heads.log_scale"),
    ("obj_logit_scale", "heads.object_log_scale"),
    *_layers("transformer.encoder", "encoder", "attention"),
    *_layers("transformer.instance_decoder", "instance_decoder", "self_attention"),
    *_layers("transformer.clip_interaction_decoder", "interaction_decoder", "self_attention"),
    ("transformer.instance_decoder.norm.", "instance_decoder.norm."),
    ("transformer.clip_interaction_decoder.norm.", "interaction_decoder.norm."),
    ("transformer.queries2spacial_proj.", "query_projection."),
    ("transformer.queries2spacial_proj_norm.", "query_norm."),
    ("transformer.obj_class_fc.", "memory_projection."),
    ("transformer.obj_class_ln.", "memory_norm."),
    ("query_embed_h.weight", "instance_decoder.human_queries"),
    ("query_embed_o.weight", "instance_decoder.object_queries"),
    ("pos_guided_embedd.weight", "instance_decoder.pair_queries"),
    ("hum_bbox_embed.", "heads.human_box."),
    ("obj_bbox_embed.", "heads.object_box."),
    ("inter2verb.", "heads.verb_feature."),
    ("verb_projection.weight", "heads.verb_classifier.weight"),
    ("obj_visual_projection.", "heads.object_classifier."),
    ("obj_class_fc.0.", "heads.object_feature."),
    ("obj_class_fc.1.", "heads.object_norm."),
    ("input_proj.", "input_projection."),
    ("backbone.0.body.conv1.", "backbone.conv."),
    ("backbone.0.body.bn1.", "backbone.bn."),
    *((f"backbone.0.body.layer{k + 1}.{{n}}.downsample.", f"backbone.stages.{k}.{{n}}.shortcut.") for k in range(4)),
    *((f"backbone.0.body.layer{k + 1}.", f"backbone.stages.{k}.") for k in range(4)),
    ("clip_model.visual.class_embedding", "clip.class_embedding"),
    ("clip_model.visual.positional_embedding", "clip.positional_embedding"),
    ("clip_model.visual.proj", "clip.projection"),
    ("clip_model.visual.conv1.", "clip.patches."),
    ("clip_model.visual.ln_pre.", "clip.norm_pre."),
    ("clip_model.visual.ln_post.", "clip.norm_post."),
    (f"{_BLOCK}attn.out_proj.", "clip.blocks.{n}.attention.out."),
    (f"{_BLOCK}attn.", "clip.blocks.{n}.attention."),
    (f"{_BLOCK}ln_1.", "clip.blocks.{n}.norm1."),
    (f"{_BLOCK}ln_2.", "clip.blocks.{n}.norm2."),
    (f"{_BLOCK}mlp.c_fc.", "clip.blocks.{n}.mlp_in."),
    (f"{_BLOCK}mlp.c_proj.", "clip.blocks.{n}.mlp_out."),
]
"""Beginnings of names, official and ours; {n} is a number. The first that fits counts, in both directions."""

# The HOI classifier of a zero-shot model is the one over all classes; a default model has only the other.
_CLASSIFIER = {
    False: [
        ("visual_projection.", "heads.hoi_classifier."),
        ("verb2hoi_proj", "heads.verb_to_hoi"),
    ],
    True: [
        ("eval_visual_projection.weight", "heads.hoi_classifier.weight"),
        ("verb2hoi_proj_eval", "heads.verb_to_hoi"),
    ],
}
_OTHER_CLASSIFIER = {
    False: ("verb2hoi_proj_eval",),
    True: ("visual_projection.weight", "visual_projection.bias", "verb2hoi_proj"),
}

_DROPPED = re.compile(
    r"transformer\.interaction_decoder\.|transformer\.clip_interaction_decoder\.layers\.\d+\.norm4\."
    r"|transformer\.inter_guided_embedd\.weight$|hoi_class_fc\.[01]\."
    r"|clip_model\.(logit_scale$|positional_embedding$|text_projection$|token_embedding\.|ln_final\.|transformer\.)"
    r"|.*\.num_batches_tracked$"
)


def our_name(key: str, zero_shot: bool) -> str | None:
    """Our name, "" for a key that is dropped, None for an unknown one."""
    if key in _OTHER_CLASSIFIER[zero_shot] or _DROPPED.match(key):
        return ""
    return renamed(key, _CLASSIFIER[zero_shot] + RENAMED)


def official_name(name: str, zero_shot: bool) -> str:
    """Inverse of our_name, for messages about a checkpoint."""
    rules = [(ours, official) for official, ours in _CLASSIFIER[zero_shot] + RENAMED]
    return renamed(name, rules) or name


def renamed(key: str, rules: list[tuple[str, str]]) -> str | None:
    for old, new in rules:
        pattern = re.escape(old).replace(r"\{n\}", r"(\d+)") + ("" if old.endswith(".") else "$")
        match = re.match(pattern, key)
        if match:
            return new.replace("{n}", match[1] if match.groups() else "") + key[match.end() :]
    return None
