"""The C++ library's functions and structures. See source/forward.cpp for the other side.

Callers see to it that all pointers stay valid and of the right size; nothing is checked on the other side.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, byref, c_float, c_int, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sluicegate.server.engine.messages import TokenLogprob
from sluicegate.server.engine.runner import Drawn
from sluicegate.server.gpt2.adjustments import ADJUSTMENT
from sluicegate.server.gpt2.batch import Batch
from sluicegate.server.gpt2.errors import NonFiniteRows
from sluicegate.server.gpt2.kernels.build import KernelsUnavailable, find_or_build
from sluicegate.server.gpt2.kernels.processor import Tier, usable_tiers
from sluicegate.server.gpt2.sampler import Draws

WIDTH_MULTIPLE = 32  # of all widths; the vocabulary's size is free
PANEL = 32  # columns of a packed weight that lie together
LARGEST_HEAD_WIDTH = 256
POSITIONS_MULTIPLE = 64  # of a slot in the cache


DRAWN = np.dtype([("id", np.int64), ("logprob", np.float32), ("is_finite", np.int32)])


class CLinear(Structure):
    """`weights`: packed; `bias`: float32 [out]."""

    _fields_ = (("weights", c_void_p), ("bias", c_void_p))


class CLayer(Structure):
    """One block. Norms: float32 [width]."""

    _fields_ = (
        ("attention_norm_weight", c_void_p),
        ("attention_norm_bias", c_void_p),
        ("attention_in", CLinear),
        ("attention_out", CLinear),
        ("mlp_norm_weight", c_void_p),
        ("mlp_norm_bias", c_void_p),
        ("mlp_in", CLinear),
        ("mlp_out", CLinear),
    )


class CModel(Structure):
    """A model. `token_embedding`, `head`: packed; `position_embedding`: float32 [context, width]."""

    _fields_ = (
        ("is_bfloat16", c_int64),
        ("layers", c_int64),
        ("heads", c_int64),
        ("width", c_int64),
        ("inner_width", c_int64),
        ("context_length", c_int64),
        ("vocabulary_size", c_int64),
        ("epsilon", c_float),
        ("token_embedding", c_void_p),
        ("position_embedding", c_void_p),
        ("head", c_void_p),
        ("final_norm_weight", c_void_p),
        ("final_norm_bias", c_void_p),
        ("blocks", POINTER(CLayer)),
    )


class Kernels:
    """An opened library with its threads. Not to be called by two threads at once."""

    def __init__(self, path: Path, tier: Tier, threads: int) -> None:
        """Raises KernelsUnavailable if it cannot be loaded, or the system does not let it run."""
        self.tier = tier
        self.threads = threads
        try:
            self._library = ctypes.CDLL(str(path))
        except OSError as error:
            raise KernelsUnavailable(f"{path} cannot be loaded: {error}") from error
        self._library.sg_open.restype = c_void_p
        self._library.sg_open.argtypes = (c_int,)
        self._library.sg_forward.argtypes = (
            *(c_void_p, POINTER(CModel), c_void_p, c_void_p, c_int64),
            *(c_void_p, c_int64, c_void_p, c_int64, c_void_p),
        )
        self._library.sg_logits.argtypes = (c_void_p, POINTER(CModel), c_void_p, c_int64, c_void_p)
        self._library.sg_draw.argtypes = (
            *(c_void_p, POINTER(CModel), c_void_p, c_int64, c_void_p),
            *(c_void_p, c_int64, c_void_p, c_void_p, c_void_p),
        )
        self._engine = self._library.sg_open(threads)  # for the life of the process
        if not self._engine:
            raise KernelsUnavailable(
                f"the system does not let this process use {tier.name}, or start {threads} threads"
            )

    def forward(self, model: CModel, batch: Batch, cache: Tensor, slots: int) -> Tensor:
        """One step: the final hidden rows, float32 [rows, width]. Raises MemoryError."""
        (ids, positions, _), spans = batch.rows, np.array(batch.spans, dtype=np.int64)
        hidden = torch.empty(len(ids), model.width)
        failed = self._library.sg_forward(
            *(self._engine, byref(model), ids.ctypes.data, positions.ctypes.data, len(ids)),
            *(spans.ctypes.data, len(spans), cache.data_ptr(), slots, hidden.data_ptr()),
        )
        if failed:
            raise MemoryError("no memory is left for a step")
        return hidden

    def draw(self, model: CModel, hidden: Tensor, draws: Draws) -> list[Drawn]:
        """A token for each final hidden row (float32 [rows, width], contiguous). Raises NonFiniteRows, MemoryError."""
        parameters, adjustments = draws.parameters, np.zeros(0, dtype=ADJUSTMENT)
        if any(item is not None for item in draws.adjustments):
            own = [adjustments if item is None else item.sorted() for item in draws.adjustments]
            adjustments = np.concatenate(own)
            parameters["last_adjustment"] = np.cumsum([len(items) for items in own])
            parameters["first_adjustment"][1:] = parameters["last_adjustment"][:-1]
        wanted: list[int] = parameters["logprobs"].tolist()
        room = min(max(0, *wanted), model.vocabulary_size)
        drawn = np.zeros(len(draws), dtype=DRAWN)
        top_ids = np.zeros((len(draws), room), dtype=np.int64)
        top_logprobs = np.zeros((len(draws), room), dtype=np.float32)
        failed = self._library.sg_draw(
            *(self._engine, byref(model), hidden.data_ptr(), len(draws), parameters.ctypes.data),
            *(adjustments.ctypes.data, room, drawn.ctypes.data, top_ids.ctypes.data, top_logprobs.ctypes.data),
        )
        if failed:
            raise MemoryError("no memory is left for a step")
        rows: list[Any] = drawn.tolist()  # tuples of DRAWN
        if damaged := [row for row, (_, _, is_finite) in enumerate(rows) if not is_finite]:
            raise NonFiniteRows(damaged)
        tops = [
            tuple(map(TokenLogprob, ids[:count], logprobs[:count])) if count > 0 else ()
            for count, ids, logprobs in zip(wanted, top_ids.tolist(), top_logprobs.tolist(), strict=True)
        ]
        return [
            Drawn(id_, None if count < 0 else logprob, top)
            for count, (id_, logprob, _), top in zip(wanted, rows, tops, strict=True)
        ]

    def logits(self, model: CModel, hidden: Tensor) -> Tensor:
        """float32 [rows, vocabulary] of final hidden rows (float32 [rows, width], contiguous). Raises MemoryError."""
        logits = torch.empty(len(hidden), model.vocabulary_size)
        if self._library.sg_logits(self._engine, byref(model), hidden.data_ptr(), len(hidden), logits.data_ptr()):
            raise MemoryError("no memory is left for a step")
        return logits


@cache
def open_kernels(threads: int) -> Kernels:
    """The best kernels that this processor can run, with so many threads, shared by all who ask.

    Raises KernelsUnavailable with the reason.
    """
    reason = KernelsUnavailable("this processor has no AVX2")
    for tier in usable_tiers():
        try:
            return Kernels(find_or_build(tier), tier, threads)
        except KernelsUnavailable as error:
            reason = error
    raise reason
