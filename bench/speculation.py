"""Tokens per second with speculation beside those without, in one run, and whether the texts are the same.

    python -m bench.speculation                           a demo model drafts for the largest, and prompt look-up
    python -m bench.speculation --drafts 1 --batch 1 --sampling sampled --drafter demo-xs demo-xs-likeliest
    python -m bench.speculation --batch 1 --rounds 9 --json

The scheduler and the runner that the server uses, in one process, with the demo models' trained weights: how often a
guess is right depends on what the models have learned. A round times both, one after the other; its prompts are
others than the last one's. What counts is the ratio. bench/README.md says what is measured and what is not.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from msgspec import structs

from sluicegate.server.demo.world import MODELS_DIRECTORY
from sluicegate.server.engine.drafters import Drafter, DraftModel, PromptLookup
from sluicegate.server.engine.lookahead import Lookahead
from sluicegate.server.engine.messages import Load, Sampling, Submit, Token
from sluicegate.server.engine.runner import Outcome, Runner
from sluicegate.server.engine.scheduler import Scheduler
from sluicegate.server.engine.speculation import SpeculativeRunner
from sluicegate.server.gpt2.loading import DTYPES, load_runner

MODEL, DRAFT = "demo-l", "demo-xs"
STEP_TOKENS = 4_096  # prompts are read at once: this is about what comes behind them
SEED_STRIDE = 1_000  # seeds between two rounds
LIKELIEST = f"{DRAFT}-likeliest"  # guesses what is most likely, where the server's draws as the model will
PROMPT_LOOKUP = "prompt-lookup"
HEADING = "drafter            sampling   batch  plain (tokens/s)  guessing  ratio  lowest-highest  right  a step  equal"
SAMPLINGS = {"greedy": Sampling(temperature=0), "sampled": Sampling(), "top-p 0.9": Sampling(top_p=0.9)}

Texts = list[list[int]]


@dataclass(frozen=True, slots=True)
class Result:
    """One drafter, sampling and batch size. Speeds and shares are medians over the rounds, as is `ratio`."""

    drafter: str
    sampling: str
    batch: int
    plain_tokens_per_second: float
    tokens_per_second: float
    ratio: float
    lowest_ratio: float
    highest_ratio: float
    accepted: float | None  # share of the guesses that were right; None: nothing was guessed
    tokens_per_step: float  # of one sequence
    equal_texts: float  # share of texts that are the same with speculation and without


@dataclass(frozen=True, slots=True)
class Pass:
    """One generation of all texts: without the steps that read prompts."""

    texts: Texts
    seconds: float
    steps: int
    drafted: int
    accepted: int

    @property
    def tokens(self) -> int:
        return sum(len(text) for text in self.texts)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.speculation", description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--drafter", nargs="+", choices=(DRAFT, LIKELIEST, PROMPT_LOOKUP), default=[DRAFT, PROMPT_LOOKUP]
    )
    parser.add_argument("--sampling", nargs="+", choices=SAMPLINGS, default=list(SAMPLINGS), help="(%(default)s)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="sequences at once (%(default)s)")
    parser.add_argument("--tokens", type=int, default=200, help="tokens generated for each prompt (%(default)s)")
    parser.add_argument("--drafts", type=int, default=8, help="the most tokens guessed at once (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count; one more goes before (%(default)s)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    arguments = parser.parse_args()

    torch.set_num_threads(1)  # models as small as these gain nothing from threads
    results = []
    try:
        for drafter, sampling, batch in itertools.product(arguments.drafter, arguments.sampling, arguments.batch):
            print(f"{drafter}, {sampling}, batch {batch}", file=sys.stderr)
            results.append(measure(drafter, sampling, batch, arguments))
    except KeyboardInterrupt:
        print("interrupted: what follows is not all", file=sys.stderr)
    run = {"model": MODEL, "dtype": arguments.dtype, "threads": 1, "drafts": arguments.drafts}
    if arguments.json:
        print(json.dumps({**run, "torch": torch.__version__, "results": [asdict(result) for result in results]}))
        return 0
    print(", ".join(f"{name} {value}" for name, value in run.items()))
    print(HEADING)
    for result in results:
        print(row(result))
    return 0


def row(result: Result) -> str:
    """A line of the table for people."""
    accepted = "" if result.accepted is None else f"{result.accepted:.0%}"
    speeds = f"{result.plain_tokens_per_second:16.1f}  {result.tokens_per_second:8.1f}"
    spread = f"{result.lowest_ratio:.2f}-{result.highest_ratio:.2f}"
    shares = f"{accepted:>5}  {result.tokens_per_step:6.2f}  {result.equal_texts:5.0%}"
    names = f"{result.drafter:17}  {result.sampling:9}  {result.batch:5}"
    return f"{names}  {speeds}  {result.ratio:5.2f}  {spread:>14}  {shares}"


def measure(drafter: str, sampling: str, batch: int, arguments: argparse.Namespace) -> Result:
    """Time both in turns, on the same prompts and seeds. The speculating one learns over all rounds, as it would."""
    plain: Runner = load(MODEL, batch, arguments.dtype)
    guessing = SpeculativeRunner(
        plain.twin(batch, None),
        build_drafter(drafter, batch, arguments.dtype),
        Lookahead(arguments.drafts),
        time.process_time,
    )
    pairs: list[tuple[Pass, Pass]] = []
    for number in range(arguments.rounds + 1):
        requests = [
            request(drafter, SAMPLINGS[sampling], SEED_STRIDE * number + index, arguments.tokens)
            for index in range(batch)
        ]
        order = (plain, guessing) if number % 2 else (guessing, plain)
        passes = {id(runner): generate(runner, requests) for runner in order}
        pairs.append((passes[id(plain)], passes[id(guessing)]))
    pairs = pairs[1:]
    ratios = [left.seconds / right.seconds for left, right in pairs]
    drafted = sum(right.drafted for _, right in pairs)
    return Result(
        drafter=drafter,
        sampling=sampling,
        batch=batch,
        plain_tokens_per_second=statistics.median(left.tokens / left.seconds for left, _ in pairs),
        tokens_per_second=statistics.median(right.tokens / right.seconds for _, right in pairs),
        ratio=statistics.median(ratios),
        lowest_ratio=min(ratios),
        highest_ratio=max(ratios),
        accepted=sum(right.accepted for _, right in pairs) / drafted if drafted else None,
        tokens_per_step=statistics.median(right.tokens / right.steps / batch for _, right in pairs),
        equal_texts=statistics.mean(
            same for left, right in pairs for same in map(list.__eq__, left.texts, right.texts)
        ),
    )


def load(model: str, slots: int, dtype: str) -> Runner:
    """A demo model on the CPU."""
    return load_runner(
        Load(
            model=model,
            directory=str(MODELS_DIRECTORY / model),
            weights_sha256=None,
            device="cpu",
            dtype=dtype,
            slots=slots,
            step_tokens=STEP_TOKENS,
        )
    )


def build_drafter(name: str, slots: int, dtype: str) -> Drafter:
    """The drafter of that name."""
    if name == PROMPT_LOOKUP:
        return PromptLookup()
    drafter = DraftModel(load(DRAFT, slots, dtype), STEP_TOKENS)
    return Likeliest(drafter) if name == LIKELIEST else drafter


class Likeliest:
    """A draft model that guesses the most likely token, however the model draws."""

    costs_nothing = False

    def __init__(self, drafter: DraftModel) -> None:
        self.cache_bytes = drafter.cache_bytes
        self.close, self.propose = drafter.close, drafter.propose
        self._drafter = drafter

    def open(self, slot: int, sampling: Sampling, candidate: int, prompt: Sequence[int]) -> None:
        """Take a slot, and leave the chances out."""
        self._drafter.open(slot, structs.replace(sampling, temperature=0), candidate, prompt)


def request(drafter: str, sampling: Sampling, seed: int, tokens: int) -> Submit:
    """A prompt of 24 tokens that mean nothing; for prompt look-up six of these four times, as in a list or a table."""
    ids: list[int] = torch.randint(0, 3_000, (24,), generator=torch.Generator().manual_seed(seed)).tolist()
    if drafter == PROMPT_LOOKUP:
        ids = ids[:6] * 4
    chosen = Sampling(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=seed,
        max_output_tokens=tokens,
        ignore_eos=True,
    )
    return Submit(request=str(seed), model=MODEL, prompt=ids, sampling=chosen)


def generate(runner: Runner, requests: Sequence[Submit]) -> Pass:
    """All texts at once; timed from the step behind the one that reads the prompts."""
    scheduler = Scheduler(runner, step_tokens=STEP_TOKENS, clock=time.process_time)
    texts: dict[str, list[int]] = {request.request: [] for request in requests}
    for message in requests:
        scheduler.submit("bench", message)
    began, steps, outcomes = time.process_time(), 0, list[Outcome]()
    while scheduler.has_work:
        step = scheduler.schedule()
        done = runner.run(step.chunks)
        scheduler.commit(step, done)
        for event in scheduler.take_events().get("bench", []):
            if isinstance(event, Token):
                texts[event.request].append(event.id)
        if step.prefill_tokens:
            began = time.process_time()
        else:
            steps += 1
            outcomes += done
    seconds = time.process_time() - began
    drafting = [outcome for outcome in outcomes if outcome.drafted]
    return Pass(
        texts=list(texts.values()),
        seconds=seconds,
        steps=steps,
        drafted=sum(outcome.drafted for outcome in drafting),
        accepted=sum(len(outcome.drawn) - 1 for outcome in drafting),
    )


if __name__ == "__main__":
    sys.exit(main())
