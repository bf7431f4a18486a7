"""What is asked: models, callers, lengths and cancels, drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """How many tokens: any number from `least` to `most`, each as likely."""

    least: int
    most: int

    def draw(self, draws: random.Random) -> int:
        return draws.randint(self.least, self.most)


@dataclass(frozen=True, slots=True)
class Request:
    """One generation. `caller`: its place among the callers. `cancel_after`: output tokens; None: not at all."""

    model: str
    caller: int
    prompt: list[int]
    output_tokens: int
    cancel_after: int | None


@dataclass(frozen=True, slots=True)
class Mix:
    """What requests are drawn from. `shares`: of each model, above 0, in any unit. `vocabularies`: tokens of each."""

    shares: Mapping[str, float]
    vocabularies: Mapping[str, int]
    callers: int
    prompt: Span
    output: Span
    cancel_share: float

    def requests(self, seed: int) -> Iterator[Request]:
        """Requests without end; the same for the same mix and seed.

        Prompts are random ids, so that no prompt begins like one that the server has read. The vocabulary's last id is
        left out: GPT-2's end-of-text.
        """
        draws = random.Random(f"requests, {seed}")  # noqa: S311
        models, shares = list(self.shares), list(self.shares.values())
        while True:
            (model,) = draws.choices(models, shares)
            output = self.output.draw(draws)
            yield Request(
                model=model,
                caller=draws.randrange(self.callers),
                prompt=draws.choices(range(self.vocabularies[model] - 1), k=self.prompt.draw(draws)),
                output_tokens=output,
                cancel_after=draws.randint(1, output) if draws.random() < self.cancel_share else None,
            )


def poisson(per_second: float, seed: int | str) -> Iterator[float]:
    """Times of arrivals that know nothing of one another, in seconds from the begin, without end."""
    draws, at = random.Random(f"arrivals, {seed}"), 0.0  # noqa: S311
    while True:
        at += draws.expovariate(per_second)
        yield at
