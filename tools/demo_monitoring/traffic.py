"""What callers send: honest and abusive calls through the client library."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from sluicegate.client import CallError, Client, Delta, GenerationConfig
from sluicegate.server.demo.world import PURPOSE
from tools.demo_monitoring.partners import CLOSED_MODELS, MODEL
from tools.demo_monitoring.relay import from_network

AT_ONCE = 6
"""Calls at a time: the model has 8 slots."""
_TEXT = (
    "river stone market letter garden window teacher winter bridge music doctor forest island copper basket morning "
    "station captain village mountain blanket engine harbour painter kitchen ladder feather harvest orchard pepper "
    "lantern saddle thunder valley whisper anchor barrel candle desert editor farmer glacier hammer insect jacket "
    "before carried decided early followed gathered heard improved joined kept learned moved noticed opened passed "
    "quietly reached seldom talked under visited walked yesterday always because certain during either further great"
)
_WORDS = _TEXT.split()
_SEED = 7


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many calls were served, and the reasons of those that were not."""

    served: int
    reasons: tuple[str, ...]

    def expected(self, *, served: int | None = None, reasons: frozenset[str] = frozenset()) -> list[str]:
        """What is not as it should be: how many were served, and which reasons there were."""
        problems = []
        if served is not None and self.served != served:
            problems.append(f"{self.served} calls were served, not {served}")
        if set(self.reasons) != reasons:
            problems.append(f"refused for {sorted(set(self.reasons))}, not for {sorted(reasons)}")
        return problems


def varied_prompts(count: int) -> list[str]:
    """Prompts that have little in common."""
    draws = random.Random(_SEED)  # noqa: S311  (no secret)
    return [" ".join(draws.choices(_WORDS, k=24)).capitalize() + "." for _ in range(count)]


def letters(count: int) -> list[str]:
    """One letter of a kind that phishers send, to as many people: name, number, link and hours differ."""
    draws = random.Random(_SEED)  # noqa: S311  (no secret)
    return [
        f"Dear {draws.choice(_WORDS).title()}, we have noticed unusual activity on your account "
        f"{draws.randint(10**7, 10**8)}. For your safety it has been limited. Please confirm your details at "
        f"https://{draws.choice(_WORDS)}.example/{draws.randint(1, 999)} within {draws.randint(12, 48)} hours, or your "
        "account will be closed for good. Thank you for your understanding. The security team."
        for _ in range(count)
    ]


async def ask_all(target: str, token: str, prompts: Sequence[str], models: Sequence[str] = (MODEL,)) -> Outcome:
    """One generation for each prompt, some at a time, over the models in turn."""
    reasons: list[str] = []
    served = 0
    config = GenerationConfig(max_output_tokens=12, temperature=1.0)
    waiting: Iterator[tuple[int, str]] = iter(enumerate(prompts))
    async with Client(target, token=token) as client:

        async def work() -> None:
            nonlocal served
            for number, prompt in waiting:
                try:
                    await client.generate(models[number % len(models)], prompt, config, purpose=PURPOSE)
                    served += 1
                except CallError as error:
                    reasons.append(error.reason or error.code.name)

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return Outcome(served, tuple(reasons))


async def probe(target: str, wide: str, narrow: str) -> Outcome:
    """Closed models with a token that has their scopes, and with one that has not."""
    reasons: list[str] = []
    served = 0
    for token in (wide, narrow):
        outcome = await ask_all(target, token, varied_prompts(30), CLOSED_MODELS)
        served += outcome.served
        reasons += outcome.reasons
    return Outcome(served, tuple(reasons))


async def ask_from_networks(target: str, token: str, count: int) -> Outcome:
    """One token from so many networks, a call from each."""
    reasons: list[str] = []
    served = 0
    async with AsyncExitStack() as stack:
        for number, prompt in enumerate(varied_prompts(count), start=2):
            address = await stack.enter_async_context(from_network(f"127.0.0.{number}", target))
            outcome = await ask_all(address, token, [prompt])
            served += outcome.served
            reasons += outcome.reasons
    return Outcome(served, tuple(reasons))


async def stream_until_refused(target: str, token: str, tokens: int) -> tuple[int, str]:
    """Streams of so many tokens, one after the other, until one ends with an error.

    Gives how many pieces of it had come, and its reason.
    """
    config = GenerationConfig(max_output_tokens=tokens, ignore_eos=True)
    (prompt,) = letters(1)
    async with Client(target, token=token) as client:
        while True:
            pieces = 0
            try:
                async with client.stream(MODEL, prompt, config, purpose=PURPOSE) as stream:
                    async for event in stream:
                        pieces += isinstance(event, Delta)
            except CallError as error:
                return pieces, error.reason or error.code.name
