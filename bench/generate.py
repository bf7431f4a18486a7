"""Generation speed of TorchRunner beside transformers' `generate`: same weights, same prompts, greedy, in one run.

    python -m bench.generate                      on the CPU, float32
    python -m bench.generate --device cuda --dtype bfloat16 --json

The weights are random, in the shape of gpt2-124m: speed does not depend on what they say. A round times both, one after
the other, so that a change of the machine's load meets both. What counts is the ratio; tokens a second belong to one
machine. bench/README.md says what is measured and what is not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from sluicegate.server.engine.messages import Sampling
from sluicegate.server.engine.runner import Chunk, ModelFacts
from sluicegate.server.gpt2.cache import Cache
from sluicegate.server.gpt2.config import Gpt2Config
from sluicegate.server.gpt2.loading import DTYPES
from sluicegate.server.gpt2.network import Network
from sluicegate.server.gpt2.runner import TorchRunner

Prompts = Sequence[list[int]]
Generate = Callable[[Prompts, int], list[list[int]]]


@dataclass(frozen=True, slots=True)
class Result:
    """One batch size. Speeds are medians over the rounds; `ratio` is the median of the rounds' own ratios."""

    batch: int
    ours_tokens_per_second: float
    transformers_tokens_per_second: float
    ratio: float
    lowest_ratio: float
    highest_ratio: float
    equal_tokens: float  # share of positions where both chose the same token


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.generate", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32], help="sequences at once (%(default)s)")
    parser.add_argument("--prompt", type=int, default=32, help="tokens of each prompt (%(default)s)")
    parser.add_argument("--tokens", type=int, default=32, help="tokens generated for each prompt (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that count; one more goes before (%(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (%(default)s)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    arguments = parser.parse_args()

    model = random_model(arguments.dtype, arguments.device)
    results = [measure(model, batch, arguments.prompt, arguments.tokens, arguments.rounds) for batch in arguments.batch]
    run = {"device": arguments.device, "dtype": arguments.dtype, "threads": torch.get_num_threads()}
    if arguments.json:
        print(json.dumps({**run, "torch": torch.__version__, "results": [asdict(result) for result in results]}))
        return 0
    print(", ".join(f"{name} {value}" for name, value in run.items()))
    print("batch  ours (tokens/s)  transformers  ratio  lowest-highest  equal tokens")
    for result in results:
        print(row(result))
    return 0


def row(result: Result) -> str:
    """A line of the table for people."""
    speeds = f"{result.ours_tokens_per_second:15.1f}  {result.transformers_tokens_per_second:12.1f}"
    spread = f"{result.lowest_ratio:.2f}-{result.highest_ratio:.2f}"
    return f"{result.batch:5}  {speeds}  {result.ratio:5.2f}  {spread:>14}  {result.equal_tokens:12.1%}"


def random_model(dtype: str, device: str) -> Any:
    """transformers' GPT-2 in the shape of gpt2-124m, its default, with random weights."""
    torch.manual_seed(0)
    model: Any = GPT2LMHeadModel(GPT2Config())
    return model.eval().to(device=device, dtype=DTYPES[dtype])


def measure(model: Any, batch: int, prompt: int, tokens: int, rounds: int) -> Result:
    """Time both in turns. The first round warms both up and does not count."""
    size = model.config.vocab_size - 1  # without end-of-text
    prompts = torch.randint(0, size, (batch, prompt), generator=torch.Generator().manual_seed(1)).tolist()
    ours, theirs = runner_generate(model, batch), transformers_generate(model)
    times: list[tuple[float, float]] = []
    for _ in range(rounds + 1):
        our_seconds, our_tokens = timed(ours, prompts, tokens, model.device)
        their_seconds, their_tokens = timed(theirs, prompts, tokens, model.device)
        times.append((our_seconds, their_seconds))
    ratios = [their_seconds / our_seconds for our_seconds, their_seconds in times[1:]]
    pairs = [pair for rows in zip(our_tokens, their_tokens, strict=True) for pair in zip(*rows, strict=True)]
    return Result(
        batch=batch,
        ours_tokens_per_second=batch * tokens / statistics.median(seconds for seconds, _ in times[1:]),
        transformers_tokens_per_second=batch * tokens / statistics.median(seconds for _, seconds in times[1:]),
        ratio=statistics.median(ratios),
        lowest_ratio=min(ratios),
        highest_ratio=max(ratios),
        equal_tokens=sum(mine == their for mine, their in pairs) / len(pairs),
    )


def timed(generate: Generate, prompts: Prompts, tokens: int, device: torch.device) -> tuple[float, list[list[int]]]:
    """Seconds of one generation, and what it gave. Both sides hand over Python integers, so no work is left queued."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begin = time.perf_counter()
    output = generate(prompts, tokens)
    return time.perf_counter() - begin, output


def runner_generate(model: Any, slots: int) -> Generate:
    """Our runner over the model's own tensors, stepped as the engine does: prefill, then one token a step."""
    network = Network(config_of(model), {k.removeprefix("transformer."): v for k, v in model.state_dict().items()})
    cache = Cache(network.config, slots, network.dtype, network.device)
    runner = TorchRunner(network, cache, facts_of(network, cache))
    sampling = Sampling(temperature=0.0, ignore_eos=True)

    def generate(prompts: Prompts, tokens: int) -> list[list[int]]:
        output: list[list[int]] = [[] for _ in prompts]
        for slot, prompt in enumerate(prompts):
            runner.open(slot, sampling, 0, prompt)
        chunks = [Chunk(slot, 0, prompt, samples=True) for slot, prompt in enumerate(prompts)]
        for _ in range(tokens):
            ids = [drawn.id for outcome in runner.run(chunks) for drawn in outcome.drawn]
            for slot, token in enumerate(ids):
                output[slot].append(token)
            chunks = [
                Chunk(chunk.slot, chunk.start + len(chunk.ids), [token], samples=True)
                for chunk, token in zip(chunks, ids, strict=True)
            ]
        for slot in range(len(prompts)):
            runner.close(slot)
        return output

    return generate


def config_of(model: Any) -> Gpt2Config:
    config = model.config
    return Gpt2Config(
        layers=config.n_layer,
        heads=config.n_head,
        width=config.n_embd,
        inner_width=config.n_inner or 4 * config.n_embd,
        context_length=config.n_positions,
        vocabulary_size=config.vocab_size,
    )


def facts_of(network: Network, cache: Cache) -> ModelFacts:
    config = network.config
    return ModelFacts(
        parameters=config.parameters,
        context_length=config.context_length,
        vocabulary_size=config.vocabulary_size,
        eos_token_id=None,
        weights_sha256="",
        dtype=str(network.dtype),
        device=str(network.device),
        slots=cache.slots,
        cache_bytes=cache.nbytes,
    )


def transformers_generate(model: Any) -> Generate:
    """transformers' own loop with its default cache, end-of-text switched off."""

    @torch.inference_mode()
    def generate(prompts: Prompts, tokens: int) -> list[list[int]]:
        ids = torch.tensor(prompts, device=model.device)
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=model.config.vocab_size - 1,
        )
        rows: list[list[int]] = output[:, ids.shape[1] :].tolist()
        return rows

    return generate


if __name__ == "__main__":
    sys.exit(main())
