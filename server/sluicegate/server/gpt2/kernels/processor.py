"""What this machine's processor can do."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")

AVX2 = frozenset({"avx2", "fma", "f16c", "bmi1", "bmi2", "movbe", "abm"})  # abm: lzcnt
AVX512 = AVX2 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}


@dataclass(frozen=True, slots=True)
class Tier:
    """A set of instructions that the kernels are built for. `flags`: as Linux names them in /proc/cpuinfo.

    `options` allow the compiler these and no more: a virtual machine may hide some that the real processor has.
    """

    name: str
    flags: frozenset[str]
    options: tuple[str, ...]  # the compiler's
    multiplies_bfloat16: bool  # else its numbers are widened first: less memory is read, with products as in float32

    @property
    def has_tiles(self) -> bool:
        """bfloat16 goes by AMX's tiles, and weights lie in them."""
        return "amx_tile" in self.flags


TIERS = (  # the best first
    Tier(
        "amx",
        AVX512 | {"avx512_bf16", "amx_tile", "amx_bf16"},
        ("-march=x86-64-v4", "-mavx512bf16", "-mamx-tile", "-mamx-bf16"),
        multiplies_bfloat16=True,
    ),
    Tier("avx512_bf16", AVX512 | {"avx512_bf16"}, ("-march=x86-64-v4", "-mavx512bf16"), True),
    Tier("avx512", AVX512, ("-march=x86-64-v4",), False),
    Tier("avx2", AVX2, ("-march=x86-64-v3",), False),
)


def usable_tiers() -> list[Tier]:
    """The tiers that this processor has, the best first; none on others than x86-64."""
    if platform.machine() != "x86_64":
        return []
    flags = _flags()
    return [tier for tier in TIERS if tier.flags <= flags]


@cache
def _flags() -> frozenset[str]:
    try:
        text = CPUINFO.read_text()
    except OSError:
        return frozenset()
    line = next((line for line in text.splitlines() if line.startswith("flags")), ":")
    return frozenset(line.partition(":")[2].split())
