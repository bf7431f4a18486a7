"""transformers' GPT-2 as the reference for ours: same weights, same texts, compared by position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

import sluicegate.server.gpt2
from sluicegate.server.engine.messages import Load, Sampling
from sluicegate.server.engine.runner import Chunk, ModelFacts, Runner
from sluicegate.server.gpt2.batch import lay_out
from sluicegate.server.gpt2.config import Gpt2Config, load_config
from sluicegate.server.gpt2.kernels import Kernels
from sluicegate.server.gpt2.loading import load_runner
from sluicegate.server.gpt2.network import Network, PrepareAttention
from sluicegate.server.gpt2.packed import PackedNetwork
from sluicegate.server.gpt2.runner import ForwardPass, TorchRunner
from sluicegate.server.gpt2.weights import load_weights
from sluicegate.server.watermark import Scheme

DEMO_MODELS = Path(sluicegate.server.gpt2.__file__).parents[1] / "demo/models"


def build_reference(seed: int, spread: float = 0.2, **sizes: int | bool) -> Any:
    """A GPT2LMHeadModel with random weights; a larger `spread` makes its distributions more decided."""
    torch.manual_seed(seed)
    settings: dict[str, Any] = {"initializer_range": spread, "bos_token_id": 0, "eos_token_id": 0, **sizes}
    model: Any = GPT2LMHeadModel(GPT2Config(**settings))
    model.eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "ln_" in name:  # transformers leaves these at 0 and 1
            torch.nn.init.normal_(parameter.data, parameter.data.mean().item(), 0.1)
    return model


def our_config(model: Any) -> Gpt2Config:
    config = model.config
    return Gpt2Config(
        layers=config.n_layer,
        heads=config.n_head,
        width=config.n_embd,
        inner_width=config.n_inner or 4 * config.n_embd,
        context_length=config.n_positions,
        vocabulary_size=config.vocab_size,
        tied=config.tie_word_embeddings,
    )


def share_weights(model: Any, prepare_attention: PrepareAttention | None = None) -> Network:
    """Our network over the reference's own tensors."""
    weights = {name.removeprefix("transformer."): value for name, value in model.state_dict().items()}
    return Network(our_config(model), weights, prepare_attention)


def pack_weights(model: Any, kernels: Kernels, dtype: torch.dtype = torch.float32) -> PackedNetwork:
    """Our packed network, with the reference's weights."""
    weights = {name.removeprefix("transformer."): value.to(dtype) for name, value in model.state_dict().items()}
    return PackedNetwork(our_config(model), weights, kernels)


def facts_of(network: ForwardPass, slots: int, cache_bytes: int, eos_token_id: int | None = None) -> ModelFacts:
    """Of a network that was never a file."""
    config = network.config
    return ModelFacts(
        parameters=config.parameters,
        context_length=config.context_length,
        vocabulary_size=config.vocabulary_size,
        eos_token_id=eos_token_id,
        weights_sha256="",
        dtype=str(network.dtype),
        device=str(network.device),
        slots=slots,
        cache_bytes=cache_bytes,
    )


def build_runner(
    network: ForwardPass, slots: int, watermark: Scheme | None = None, eos_token_id: int | None = None
) -> TorchRunner:
    cache = network.new_cache(slots)
    return TorchRunner(network, cache, facts_of(network, slots, cache.nbytes, eos_token_id), watermark)


def demo_runner(dtype: str, slots: int, device: str = "cpu", model: str = "demo-xs") -> Runner:
    """A demo model, loaded as the server loads it: trained, so its distributions are those of text."""
    return load_runner(demo_load(dtype, slots, device, model))


def demo_load(dtype: str, slots: int, device: str = "cpu", model: str = "demo-xs") -> Load:
    """What the server would ask for of it."""
    return Load(
        model=model,
        directory=str(DEMO_MODELS / model),
        weights_sha256=None,
        device=device,
        dtype=dtype,
        slots=slots,
        step_tokens=64,
    )


def demo_network(model: str) -> Network:
    """A demo model's network in float32."""
    config = load_config(DEMO_MODELS / model)
    weights = load_weights(DEMO_MODELS / model, config, torch.float32, torch.device("cpu"), None)
    return Network(config, weights.tensors)


@dataclass(frozen=True)
class Text:
    """A text: it joins at step `joins`, its first `prompt` ids come in chunks, the others one by one."""

    ids: list[int]
    prompt: int
    chunk: int
    joins: int = 0


@dataclass(frozen=True)
class Difference:
    """How far our logits are from the reference's: at most, and how often the argmax agrees.

    `deviation`: the standard deviation of the reference's logits, for comparison.
    """

    largest: float
    agreement: float
    positions: int
    deviation: float


@torch.inference_mode()
def compare(model: Any, network: ForwardPass, texts: Sequence[Text]) -> Difference:
    """Feed all texts in one mixed batch, each alone to the reference; compare every position's logits."""
    cache = network.new_cache(len(texts))
    fed = [0] * len(texts)
    largest, agreeing, positions, step = 0.0, 0, 0, 0
    expected = [model(torch.tensor([text.ids], device=network.device)).logits[0].float() for text in texts]
    while any(count < len(text.ids) for count, text in zip(fed, texts, strict=True)):
        chunks = []
        for slot, text in enumerate(texts):
            if step >= text.joins and fed[slot] < len(text.ids):
                size = min(text.chunk, text.prompt - fed[slot]) if fed[slot] < text.prompt else 1
                chunks.append(Chunk(slot, fed[slot], text.ids[fed[slot] : fed[slot] + size], samples=False))
        if chunks:
            batch = lay_out(chunks, network.device)
            logits = network.logits(network.forward(batch, cache))
            for span in batch.spans:
                ours, theirs = logits[span.first : span.last], expected[span.slot][span.start : span.end]
                largest = max(largest, (ours - theirs).abs().max().item())
                agreeing += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
                positions += len(ours)
                fed[span.slot] = span.end
        step += 1
    deviation = max(logits.std().item() for logits in expected)
    return Difference(largest, agreeing / positions, positions, deviation)


@torch.inference_mode()
def greedy_reference(model: Any, prompt: list[int], steps: int) -> list[int]:
    """The reference's own greedy continuation, with its own cache."""
    ids = torch.tensor([prompt], device=model.device)
    cache, output = DynamicCache(), []
    # transformers 5.24 calls the cache `cache`, earlier releases `past_key_values`.
    name = "cache" if "cache" in signature(model.forward).parameters else "past_key_values"
    for _ in range(steps):
        ids = model(ids, **{name: cache}, use_cache=True).logits[:, -1].argmax(-1, keepdim=True)
        output.append(int(ids))
    return output


def generate(
    runner: Runner, prompts: dict[int, list[int]], samplings: dict[int, Sampling], steps: int
) -> dict[int, list[int]]:
    """Our continuation of prompts in these slots, all at once."""
    fed = dict.fromkeys(prompts, 0)
    unfed = dict(prompts)
    output: dict[int, list[int]] = {slot: [] for slot in prompts}
    for slot, prompt in prompts.items():
        runner.open(slot, samplings[slot], 0, prompt)
    for _ in range(steps):
        chunks = [Chunk(slot, fed[slot], unfed[slot], samples=True) for slot in prompts]
        for chunk, outcome in zip(chunks, runner.run(chunks), strict=True):
            (drawn,) = outcome.drawn
            fed[chunk.slot] += len(chunk.ids)
            unfed[chunk.slot] = [drawn.id]
            output[chunk.slot].append(drawn.id)
    for slot in prompts:
        runner.close(slot)
    return output


def random_ids(seed: int, count: int, vocabulary: int) -> list[int]:
    """Token ids of a text that means nothing."""
    ids: Tensor = torch.randint(0, vocabulary, (count,), generator=torch.Generator().manual_seed(seed))
    return ids.tolist()
