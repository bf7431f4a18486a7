"""GPT-2 (Radford et al. 2019) over a ragged batch: pre-norm blocks, learned positions, GELU by tanh.

Shapes and names follow OpenAI's src/model.py and transformers' modeling_gpt2.py. There is no padding: all
chunks' tokens are rows of one matrix, and only attention looks at which rows belong together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sluicegate.server.engine.runner import Drawn
from sluicegate.server.gpt2.attention import Attention, DecodesTogether, EachAlone
from sluicegate.server.gpt2.batch import Batch
from sluicegate.server.gpt2.cache import Cache
from sluicegate.server.gpt2.config import Gpt2Config
from sluicegate.server.gpt2.sampler import Draws, draw_checked

PrepareAttention = Callable[[Batch, torch.dtype], Attention]


@dataclass(frozen=True, slots=True)
class Linear:
    """`weight`: [out, in]; `bias`: [out]."""

    weight: Tensor
    bias: Tensor

    def __call__(self, rows: Tensor) -> Tensor:
        return functional.linear(rows, self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class LayerNorm:
    """`weight`, `bias`: [width]."""

    weight: Tensor
    bias: Tensor
    epsilon: float

    def __call__(self, rows: Tensor) -> Tensor:
        return functional.layer_norm(rows, self.weight.shape, self.weight, self.bias, self.epsilon)


@dataclass(frozen=True, slots=True)
class Block:
    """One transformer block's weights."""

    attention_norm: LayerNorm
    attention_in: Linear  # width -> queries, keys, values
    attention_out: Linear
    mlp_norm: LayerNorm
    mlp_in: Linear
    mlp_out: Linear


class Network:
    """The forward pass. Immutable; the sequences' state is in the Cache."""

    def __init__(
        self,
        config: Gpt2Config,
        weights: Mapping[str, Tensor],
        prepare_attention: PrepareAttention | None = None,
    ) -> None:
        """`weights`: by the names and shapes of `weight_shapes`, all of one dtype on one device."""
        self.config = config
        self._token_embedding = weights["wte.weight"]
        self._position_embedding = weights["wpe.weight"]
        self._blocks = tuple(_block(config, weights, layer) for layer in range(config.layers))
        self._final_norm = _norm(config, weights, "ln_f")
        self._head = weights["wte.weight" if config.tied else "lm_head.weight"]
        self._prepare_attention = prepare_attention or _attention_for(config, self.device)

    def new_cache(self, slots: int) -> Cache:
        """An empty cache for this network."""
        return Cache(self.config, slots, self.dtype, self.device)

    @property
    def dtype(self) -> torch.dtype:
        return self._token_embedding.dtype

    @property
    def device(self) -> torch.device:
        return self._token_embedding.device

    @torch.inference_mode()
    def forward(self, batch: Batch, cache: Cache) -> Tensor:
        """Feed the batch: its keys and values go into `cache`. Returns the final hidden [rows, width]."""
        attention = self._prepare_attention(batch, self.dtype)
        return self.feed(batch.ids, batch.positions, batch.slots, cache, attention)

    def feed(self, ids: Tensor, positions: Tensor, slots: Tensor, cache: Cache, attention: Attention) -> Tensor:
        """Feed rows (int64 [rows] each) into `cache`. Returns the final hidden [rows, width]. Waits for nothing."""
        config = self.config
        rows = self._token_embedding[ids] + self._position_embedding[positions]
        for layer, block in enumerate(self._blocks):
            projected = block.attention_in(block.attention_norm(rows))
            queries, keys, values = projected.view(-1, 3, config.heads, config.head_width).unbind(1)
            cache.write(layer, slots, positions, keys, values)
            attended = attention(queries, cache.keys[layer], cache.values[layer])
            rows = rows + block.attention_out(attended.reshape(-1, config.width))
            inner = functional.gelu(block.mlp_in(block.mlp_norm(rows)), approximate="tanh")
            rows = rows + block.mlp_out(inner)
        return self._final_norm(rows)

    @torch.inference_mode()
    def logits(self, rows: Tensor) -> Tensor:
        """float32 [rows, vocabulary] of final hidden rows [rows, width]; the caller owns the result."""
        return functional.linear(rows, self._head).float()

    @torch.inference_mode()
    def draw(self, rows: Tensor, draws: Draws) -> list[Drawn]:
        """A token for each final hidden row [rows, width]. Raises NonFiniteRows."""
        return draw_checked(self.logits(rows), draws)


def _attention_for(config: Gpt2Config, device: torch.device) -> PrepareAttention:
    if device.type == "cpu":
        return EachAlone
    return lambda batch, dtype: DecodesTogether(batch, dtype, config.context_length)


def _block(config: Gpt2Config, weights: Mapping[str, Tensor], layer: int) -> Block:
    prefix = f"h.{layer}"
    return Block(
        attention_norm=_norm(config, weights, f"{prefix}.ln_1"),
        attention_in=_linear(weights, f"{prefix}.attn.c_attn"),
        attention_out=_linear(weights, f"{prefix}.attn.c_proj"),
        mlp_norm=_norm(config, weights, f"{prefix}.ln_2"),
        mlp_in=_linear(weights, f"{prefix}.mlp.c_fc"),
        mlp_out=_linear(weights, f"{prefix}.mlp.c_proj"),
    )


def _linear(weights: Mapping[str, Tensor], name: str) -> Linear:
    return Linear(weights[f"{name}.weight"].t(), weights[f"{name}.bias"])


def _norm(config: Gpt2Config, weights: Mapping[str, Tensor], name: str) -> LayerNorm:
    return LayerNorm(weights[f"{name}.weight"], weights[f"{name}.bias"], config.epsilon)
