"""What it costs to turn logits into tokens: our sampler beside transformers' processors and multinomial, paired.

    python -m bench.sampler
    python -m bench.sampler --rows 1 8 32 --rounds 20 --json

Both get the same logits of GPT-2's vocabulary. bench/README.md says what is measured and what is not.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor

from bench import machine
from bench.figures import Spread, paired, spread
from bench.terminal import document, headline, run, say, table
from bench.work import CONTEXT, VOCABULARY
from sluicegate.server.engine.messages import Sampling
from sluicegate.server.gpt2.sampler import Sampler, draw

PROMPT = 128
"""Tokens before the draw: what penalties look at. Half of them are output."""
DEVIATIONS = {"peaked": 3.0, "flat": 0.3}
"""Of the logits: about what a trained model gives, and what filters find hardest."""


@dataclass(frozen=True, slots=True)
class Case:
    """One way to draw."""

    name: str
    sampling: Sampling


CASES = (
    Case("greedy", Sampling(temperature=0)),
    Case("unfiltered", Sampling(temperature=0.8)),
    Case("top-k 40", Sampling(temperature=0.8, top_k=40)),
    Case("top-p 0.9", Sampling(temperature=0.8, top_p=0.9)),
    Case("typical 0.9", Sampling(temperature=0.8, typical_p=0.9)),
    Case("top-k 40, 5 log-probabilities", Sampling(temperature=0.8, top_k=40, logprobs=5)),
    Case("top-k 40, repetition penalty", Sampling(temperature=0.8, top_k=40, repetition_penalty=1.2)),
    Case(
        "top-k 40, presence and frequency",
        Sampling(temperature=0.8, top_k=40, presence_penalty=0.5, frequency_penalty=0.5),
    ),
)


@dataclass(frozen=True, slots=True)
class Row:
    """Milliseconds of a draw for all rows: medians over the rounds, with their spread. `ratio`: transformers' over
    ours, so above 1 ours is faster."""

    case: str
    logits: str
    rows: int
    ours_ms: Spread
    transformers_ms: Spread | None
    ratio: Spread | None
    disturbed_rounds: int


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.sampler", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 32], help="drawn at once (%(default)s)")
    parser.add_argument("--logits", nargs="+", choices=DEVIATIONS, default=list(DEVIATIONS), help="(%(default)s)")
    parser.add_argument("--draws", type=int, default=5, help="of each in a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=10, help="rounds that count; one more goes before (%(default)s)")
    parser.add_argument("--threads", type=int, default=machine.cores(), help="(%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    rows = [measured(options, case, kind, count) for kind in options.logits for count in options.rows for case in CASES]
    if options.json:
        print(document("sampler", options, {"rows": rows}, ("sluicegate", "torch", "transformers")))
        return 0
    print(headline())
    print(f"{options.rounds} rounds, {options.threads} threads, milliseconds for all rows, vocabulary of {VOCABULARY}")
    header = ["logits, rows, case", "ours", "transformers", "transformers/ours", "disturbed"]
    print(table(header, [cells(each) for each in rows]))
    return 0


def measured(options: argparse.Namespace, case: Case, kind: str, count: int) -> Row:
    """Both in turns, in either order. Each draw gets logits of its own, since ours changes them in place."""
    ours, theirs = our_draw(case, count), transformers_draw(case, count)
    own, their, disturbed = list[float](), list[float](), 0
    for number in range(options.rounds + 1):
        logits = [torch.randn(count, VOCABULARY) * DEVIATIONS[kind] for _ in range(options.draws)]
        with machine.usage([os.getpid()]) as use:
            sides = [(own, ours), (their, theirs)]
            for times, draw in sides if number % 2 else reversed(sides):
                if draw is not None:
                    times.append(seconds_of(draw, logits) / options.draws * 1e3)
        disturbed += use.is_disturbed and number > 0
    say(f"{kind}, {count} rows, {case.name}: {spread(own[1:]).median:.2f} ms")
    return Row(
        case=case.name,
        logits=kind,
        rows=count,
        ours_ms=spread(own[1:]),
        transformers_ms=spread(their[1:]) if theirs else None,
        ratio=paired(their[1:], own[1:]) if theirs else None,
        disturbed_rounds=disturbed,
    )


def seconds_of(draw: Callable[[Tensor], object], logits: Sequence[Tensor]) -> float:
    copies = [each.clone() for each in logits]
    begun = time.perf_counter()
    for each in copies:
        draw(each)
    return time.perf_counter() - begun


def our_draw(case: Case, count: int) -> Callable[[Tensor], object]:
    """The sampler with all rows opened, half of whose tokens count as output."""
    sampler = Sampler(count, CONTEXT, VOCABULARY)
    tokens = torch.randint(VOCABULARY, (count, PROMPT)).tolist()
    for slot, ids in enumerate(tokens):
        sampler.open(slot, case.sampling, 0, ids[: PROMPT // 2])
        sampler.feed(slot, 0, ids)
    slots, positions = list(range(count)), [PROMPT] * count

    @torch.inference_mode()
    def draw_all(logits: Tensor) -> object:
        return draw(logits, sampler.draws(slots, positions))

    return draw_all


def transformers_draw(case: Case, count: int) -> Callable[[Tensor], object] | None:
    """What `generate` does with logits: its processors and warpers, then argmax or softmax and multinomial; ids as
    Python integers, as ours. None where transformers has no such processor."""
    sampling, own = case.sampling, transformers
    if sampling.presence_penalty or sampling.frequency_penalty:
        return None
    ids = torch.randint(VOCABULARY, (count, PROMPT))
    steps: Any = own.LogitsProcessorList()
    if sampling.repetition_penalty != 1:
        steps.append(own.RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.temperature not in (0, 1):
        steps.append(own.TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k is not None:
        steps.append(own.TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        steps.append(own.TopPLogitsWarper(sampling.top_p))
    if sampling.typical_p < 1:
        steps.append(own.TypicalLogitsWarper(sampling.typical_p))

    @torch.inference_mode()
    def draw(logits: Tensor) -> object:
        scores = steps(ids, logits)
        if sampling.temperature == 0:
            return scores.argmax(-1).tolist()
        chosen = torch.multinomial(scores.softmax(-1), 1)[:, 0]
        if sampling.logprobs is not None:
            logprobs = logits.log_softmax(-1)
            found = (logprobs.gather(-1, chosen[:, None])[:, 0], *logprobs.topk(sampling.logprobs))
            return [chosen.tolist(), *(each.tolist() for each in found)]
        return chosen.tolist()

    return draw


def cells(each: Row) -> list[str]:
    return [
        f"{each.logits}, {each.rows}, {each.case}",
        f"{each.ours_ms:.2f}",
        "-" if each.transformers_ms is None else f"{each.transformers_ms:.2f}",
        "-" if each.ratio is None else f"{each.ratio:.2f}",
        str(each.disturbed_rounds or "-"),
    ]


if __name__ == "__main__":
    run(main)
