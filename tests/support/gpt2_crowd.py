"""One generation alone and in a crowd, over the real scheduler: does its text depend on who else is there?"""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gpt2_reference import random_ids

from sluicegate.server.engine.messages import Sampling, Started, Submit, Token
from sluicegate.server.engine.runner import Runner
from sluicegate.server.engine.scheduler import Scheduler

FRONT, ASKED = "front", "asked"
STEP_TOKENS = 64  # small, so that the crowd's prompts cut the asked one into other chunks
OTHERS = 32

Tokens = dict[int, list[int]]


@dataclass(frozen=True)
class Agreement:
    """Of `runs` generations `identical` came out the same twice; `tokens` were compared, each up to its first change.

    After a first different token the texts are of different prompts, so nothing behind it is counted.
    """

    runs: int
    identical: int
    tokens: int

    @property
    def rate(self) -> float:
        """How often a token is the same, all before it being the same."""
        return 1 - (self.runs - self.identical) / self.tokens


def asked(prompt: list[int], sampling: Sampling, candidates: int = 1) -> Submit:
    """The request whose tokens are looked at."""
    return Submit(request=ASKED, model="gpt2", prompt=prompt, sampling=sampling, candidates=candidates)


def alone(runner: Runner, request: Submit) -> Tokens:
    """The request's tokens, by candidate, when nothing else runs."""
    return _run(runner, request, iter(()))


def in_a_crowd(runner: Runner, request: Submit, seed: int) -> Tokens:
    """The request's tokens, by candidate, when `OTHERS` others run at any time, joining and leaving all along.

    Needs `OTHERS` slots beside the request's own.
    """
    return _run(runner, request, _crowd(seed, runner.facts.vocabulary_size))


def after(runner: Runner, earlier: Submit, request: Submit, steps: int) -> tuple[Tokens, int]:
    """The request's tokens, by candidate, when it comes so many steps after another, and what it found cached."""
    scheduler = Scheduler(runner, step_tokens=STEP_TOKENS, clock=lambda: 0.0)
    tokens: defaultdict[int, list[int]] = defaultdict(list)
    found = 0
    scheduler.submit(FRONT, earlier)
    for step in itertools.count():
        if step == steps:
            scheduler.submit(FRONT, request)
        elif step > steps and not scheduler.knows(FRONT, ASKED):
            break
        work = scheduler.schedule()
        scheduler.commit(work, runner.run(work.chunks))
        for event in scheduler.take_events().get(FRONT, []):
            if isinstance(event, Started) and event.request == ASKED:
                found = event.cached_tokens
            if isinstance(event, Token) and event.request == ASKED:
                tokens[event.candidate].append(event.id)
    scheduler.abort_all()
    return dict(tokens), found


def agreement(pairs: Iterable[tuple[list[int], list[int]]]) -> Agreement:
    """How far two runs of each generation agree."""
    runs = identical = tokens = 0
    for left, right in pairs:
        common = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=True)))
        runs += 1
        identical += common == len(left)
        tokens += min(common + 1, len(left))
    return Agreement(runs, identical, tokens)


def _crowd(seed: int, vocabulary: int) -> Iterator[Submit]:
    """Others without end: prompts and outputs of all lengths, greedy and not."""
    rng = random.Random(seed)
    for number in itertools.count():
        sampling = Sampling(
            temperature=rng.choice((0.0, 0.8, 1.2)),
            top_k=rng.choice((None, 40)),
            repetition_penalty=rng.choice((1.0, 1.2)),
            max_output_tokens=rng.randint(1, 40),
            seed=number,
            ignore_eos=True,
        )
        prompt = random_ids(rng.getrandbits(32), rng.randint(1, 90), vocabulary)
        yield Submit(request=str(number), model="gpt2", prompt=prompt, sampling=sampling)


def _run(runner: Runner, request: Submit, others: Iterator[Submit]) -> Tokens:
    scheduler = Scheduler(runner, step_tokens=STEP_TOKENS, clock=lambda: 0.0)
    tokens: defaultdict[int, list[int]] = defaultdict(list)
    crowd = list(itertools.islice(others, OTHERS))
    for other in crowd:
        scheduler.submit(FRONT, other)
    for step in itertools.count():
        if step == 3:  # the crowd's prompts are still being read
            scheduler.submit(FRONT, request)
        elif step > 3 and not scheduler.knows(FRONT, ASKED):
            break
        crowd = [other for other in crowd if scheduler.knows(FRONT, other.request)]
        for other in itertools.islice(others, OTHERS - len(crowd)):
            scheduler.submit(FRONT, other)
            crowd.append(other)
        work = scheduler.schedule()
        scheduler.commit(work, runner.run(work.chunks))
        for event in scheduler.take_events().get(FRONT, []):
            if isinstance(event, Token) and event.request == ASKED:
                tokens[event.candidate].append(event.id)
    scheduler.abort_all()
    return dict(tokens)
