"""Compiles every Triton kernel for a GPU that need not be there: python compile_ahead.py 87 89 90. One JSON line each.

Run on its own: Triton decides at import whether kernels are compiled or interpreted.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource

from hoiclip_kernels.bias_relu import triton_impl as bias_relu
from hoiclip_kernels.dual_attention import triton_impl as attention
from hoiclip_kernels.pair_decode import triton_impl as decode
from hoiclip_kernels.pair_nms import triton_impl as nms
from hoiclip_kernels.preprocess import triton_impl as preprocess

ALIGNED = [["tt.divisibility", 16]]


def of_attention(name: str, dtype: str) -> tuple[Any, ...]:
    tiles = attention.TILES[name]
    constants = {
        "HAS_PADDING": True, "DEPTH": 96, "DEPTH_A": 64, "DEPTH_B": 32, "PRECISION": "tf32",
        "BLOCK_Q": tiles.queries, "BLOCK_M": tiles.cells,
    }  # fmt: skip
    types = dict.fromkeys(("q", "k1", "v1", "k2", "v2", "out1", "out2"), f"*{dtype}") | {
        "padding2": "*u8",
        "scale": "fp32",
    }
    loose = {"heads", "queries", "cells1", "cells2", "padding_batch"}
    return attention.kernel, types, constants, loose, {"num_warps": tiles.warps, "num_stages": tiles.stages}


def of_preprocess(nv12: bool) -> tuple[Any, ...]:
    pointers = dict.fromkeys(("source", "uv", "image", "mask"), "*u8") | {"table": "*fp32", "out": "*fp32"}
    taps = {f"{name}_{axis}": "*i32" for name in ("first", "count", "weight") for axis in "xy"}
    constants = {"NV12": nv12, "HAS_MASK": True, "BLOCK_X": preprocess.BLOCK}
    return preprocess.kernel, pointers | taps, constants, None, {}


SCORES = {
    "hoi_prob": "*fp32",
    "object_prob": "*fp32",
    "object_of_hoi": "*i64",
    "class_of_hoi": "*i64",
    "weight": "*fp64",
}
KEYS = {"keys": "*i64", "merged": "*i64", "query_n": "*i64", "class_n": "*i64", "hoi_n": "*i64"}
ROWS = {
    "humans": "*fp32", "objects": "*fp32", "class_n": "*i64", "score_n": "*fp64", "group_n": "*i32", "order_n": "*i32",
    "kept_n": "*i64", "count": "*i32", "threshold": "*fp64",
}  # fmt: skip
POWERS = {"HUMAN_POWER": 1.0, "OBJECT_POWER": 0.5}

CELLS = dict.fromkeys(("x", "bias", "added", "valid"), "*fp16")
BLOCK_END = {"HAS_ADDED": True, "HAS_VALID": True, "CHANNELS": 256, "BLOCK_SIZE": bias_relu.BLOCK}

KERNELS: dict[str, tuple[Any, ...]] = {
    "bias_relu": (bias_relu.kernel, CELLS, BLOCK_END, set(), {}),
    **{f"dual_attention {name}": of_attention(name, "fp16") for name in attention.TILES},
    "preprocess rgb": of_preprocess(False),
    "preprocess nv12": of_preprocess(True),
    "pair_decode best_of_query": (
        decode.best_of_query, SCORES | KEYS, {"HAS_WEIGHT": False, "BLOCK_C": 1024}, None, {"num_warps": 8},
    ),
    "pair_decode merge": (decode.merge, KEYS, {"BLOCK": 1024, "SHARE": 800}, None, {"num_warps": 8}),
    "pair_decode unpack": (decode.unpack, SCORES | KEYS, {"BLOCK": 128}, None, {"num_warps": 8}),
    "pair_nms": (nms.kernel, ROWS, POWERS | {"BLOCK": 128}, None, {"num_warps": 4}),
}  # fmt: skip


def compiled(name: str, capability: int) -> dict[str, Any]:
    """What the compiler reports. Every pointer is aligned, and every number that is not loose divisible by 16."""
    kernel, types, constants, loose, options = KERNELS[name]
    arguments = kernel.arg_names
    signature = {one: "constexpr" if one in constants else types.get(one, "i32") for one in arguments}
    aligned = {
        (i,): ALIGNED
        for i, one in enumerate(arguments)
        if signature[one].startswith("*") or (signature[one] == "i32" and loose is not None and one not in loose)
    }
    source = ASTSource(kernel, signature, constants, aligned)
    made = triton.compile(
        source, target=GPUTarget("cuda", capability, 32), options={"enable_fp_fusion": True, **options}
    )
    return {"kernel": name, "sm": capability, "shared": made.metadata.shared, **assembled(made.asm["ptx"], capability)}


def assembled(ptx: str, capability: int) -> dict[str, int]:
    """Registers and spilled bytes, by the assembler's own report."""
    target = re.search(r"\.target (sm_\w+)", ptx)
    assert target
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.ptx"
        file.write_text(ptx, encoding="utf-8")
        command = [get_ptxas(capability).path, "-v", f"--gpu-name={target[1]}", str(file), "-o", f"{file}.cubin"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    spills = [int(n) for n in re.findall(r"(\d+) bytes spill", said)]
    return {"registers": int(re.findall(r"Used (\d+) registers", said)[0]), "spilled": sum(spills)}


if __name__ == "__main__":
    for capability in map(int, sys.argv[1:]):
        for name in KERNELS:
            print(json.dumps(compiled(name, capability)), flush=True)
