"""Misuse, and honest use that could be taken for it, driven through real gRPC; and which alerts each must raise.

Used by the end-to-end tests with a real Prometheus, whose rules run sixty times as fast.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from harness import (
    EVERY_SCOPE,
    LONG_SECONDS,
    SMALL,
    TOKENIZER,
    Server,
    bearer,
    connected,
    demo_plan,
    open_agreement,
    refusal,
)
from issuer import ISSUER, KEY, token
from policies import Document

from sluicegate.auth import create_signing_key
from sluicegate.v1.generation_pb2 import GenerationConfig
from sluicegate.v1.generation_service_pb2 import GenerateRequest
from sluicegate.v1.generation_service_pb2_grpc import GenerationServiceStub
from sluicegate.v1.withdrawal_service_pb2 import ClientTarget, CreateWithdrawalRequest, WithdrawalTarget
from sluicegate.v1.withdrawal_service_pb2_grpc import WithdrawalServiceStub
from tools.demo_monitoring.relay import from_network

PARTNER = bearer(client_id="lab-app")
OPERATOR = bearer(sub="olga", client_id="operations", scope="release:withdraw")
_WORDS = (
    "river stone market letter garden window teacher winter bridge music doctor forest island copper basket morning "
    "station captain village mountain blanket engine harbour painter kitchen ladder feather harvest orchard pepper "
    "lantern saddle thunder valley whisper anchor barrel candle desert editor farmer glacier hammer insect jacket "
    "kettle lizard meadow needle office parcel quarry rabbit sailor tailor umbrella violin wagon yellow zebra across "
    "before carried decided early followed gathered heard improved joined kept learned moved noticed opened passed "
    "quietly reached seldom talked under visited walked yesterday always because certain during either further great"
)
WORDS = _WORDS.split()
AT_ONCE = 8
"""Calls that a scenario makes at a time."""
Drive = Callable[[Server], Awaitable[None]]


def prose(seed: object, words: int = 40) -> str:
    """Words that no other seed gives in this order."""
    draws = random.Random(str(seed))
    return " ".join(draws.choice(WORDS) for _ in range(words)).capitalize() + "."


@cache
def varied(prompt: tuple[int, ...]) -> tuple[int, ...]:
    """An output that differs from prompt to prompt."""
    return tuple(TOKENIZER.encode(" " + prose(prompt, 20)))


@cache
def personal(prompt: tuple[int, ...]) -> tuple[int, ...]:
    """One with personal data in it."""
    draws = random.Random(str(prompt))
    address = f"{draws.choice(WORDS)}.{draws.choice(WORDS)}@{draws.choice(WORDS)}-mail.org"
    return tuple(
        TOKENIZER.encode(f" {prose(prompt, 12)} Write to {address} or call +44 20 7946 0{draws.randint(100, 999)}.")
    )


@cache
def flagged(prompt: tuple[int, ...]) -> tuple[int, ...]:
    """One that meets the flagged lexicon."""
    return tuple(TOKENIZER.encode(f" {prose(prompt, 12)} Please verify your account. {prose(prompt, 5)}"))


async def say(server: Server, prompt: str, who: Any = PARTNER, tokens: int = 40, **more: Any) -> None:
    """One generation, which must be served."""
    request = GenerateRequest(model=SMALL, text=prompt, config=GenerationConfig(max_output_tokens=tokens, **more))
    await server.generation.Generate(request, metadata=who, timeout=LONG_SECONDS)


async def say_all(server: Server, prompts: Sequence[str], **more: Any) -> None:
    """Some at a time."""
    waiting = iter(prompts)

    async def work() -> None:
        for prompt in waiting:
            await say(server, prompt, **more)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


async def near_duplicates(server: Server) -> None:
    """500 letters from one template."""
    draws = random.Random(7)
    await say_all(
        server,
        [
            f"Dear {draws.choice(WORDS).title()}, we have noticed unusual activity on your account "
            f"{draws.randint(10**7, 10**8)}. For your safety it has been limited. Please confirm your details at https://{draws.choice(WORDS)}.example/"
            f"{draws.randint(1, 999)} within {draws.randint(12, 48)} hours, or your account will be closed for good. "
            "Thank you for your understanding. The security team."
            for _ in range(500)
        ],
        tokens=12,
    )


async def scope_probing(server: Server) -> None:
    """Models that are not open, and scopes that the token has not."""
    for number in range(40):
        model = ("gpt2-1558m", "gpt2-next")[number % 2]
        request = GenerateRequest(model=model, text="Hello", config=GenerationConfig(max_output_tokens=1))
        who = PARTNER if number % 4 else bearer(client_id="lab-app", scope=f"generate:{SMALL}")
        await refusal(server.generation.Generate(request, metadata=who, timeout=LONG_SECONDS))


async def shared_token(server: Server) -> None:
    """One token from six networks."""
    async with AsyncExitStack() as stack:
        for number in range(2, 8):
            address = await stack.enter_async_context(from_network(f"127.0.0.{number}", server.target))
            channel = await stack.enter_async_context(connected(address))
            stub: Any = GenerationServiceStub(channel)
            request = GenerateRequest(model=SMALL, text=prose(number), config=GenerationConfig(max_output_tokens=5))
            await stub.Generate(request, metadata=PARTNER, timeout=LONG_SECONDS)


async def withdrawn_token(server: Server) -> None:
    """A client is closed, and its token goes on being tried."""
    await say(server, prose("before"))
    stub: Any = WithdrawalServiceStub(server.channel)
    target = WithdrawalTarget(client=ClientTarget(issuer=ISSUER, client_id="lab-app"))
    asked = CreateWithdrawalRequest(target=target, justification="Its token has leaked.")
    await stub.CreateWithdrawal(asked, metadata=OPERATOR, timeout=LONG_SECONDS)
    for _ in range(3):
        request = GenerateRequest(model=SMALL, text=prose("after"), config=GenerationConfig(max_output_tokens=1))
        await refusal(server.generation.Generate(request, metadata=PARTNER, timeout=LONG_SECONDS))


async def forged_tokens(server: Server) -> None:
    """Tokens signed by another key under the name of a good one."""
    forger = create_signing_key("ES256", key_id=KEY.key_id)
    for number in range(20):
        who = bearer(token(forger, scope=EVERY_SCOPE, client_id="lab-app"))
        request = GenerateRequest(model=SMALL, text=prose(number), config=GenerationConfig(max_output_tokens=1))
        await refusal(server.generation.Generate(request, metadata=who, timeout=LONG_SECONDS))


async def personal_data(server: Server) -> None:
    """Prompts that have a model give personal data."""
    server.engine.writes = personal
    await say_all(server, [prose(("tell me of", number)) for number in range(40)], tokens=80)


async def flagged_content(server: Server) -> None:
    """Prompts that have a model write what the lexicon has as phishing."""
    server.engine.writes = flagged
    await say_all(server, [prose(("write for me", number)) for number in range(40)], tokens=80)


async def volume_spike(server: Server) -> None:
    """A new partner floods the model, with long prompts that differ."""
    await say_all(server, [prose(("flood", number), 250) for number in range(400)], tokens=24)


async def off_hours(server: Server) -> None:
    """A partner works in the middle of its night, which its agreement has as a signal."""
    await say_all(server, [prose(("night", number)) for number in range(30)])


async def honest(server: Server) -> None:
    """An ordinary partner."""
    await say_all(server, [prose(("question", number)) for number in range(60)])


async def honest_heavy(server: Server) -> None:
    """The same partner at many times its volume: varied prompts, one token, one network."""
    await honest(server)
    await say_all(server, [prose(("study", number), 220) for number in range(450)], tokens=24)


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happens, which alerts it must raise and no others, and what its partner's agreement says otherwise."""

    drive: Drive
    alerts: frozenset[str] = frozenset()
    terms: Document = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.drive.__name__


NIGHT = {"hours": {"weekdays": "23:00-23:01", "mode": "signal"}}
SCENARIOS = (
    Scenario(near_duplicates, frozenset({"MassDuplicates", "TemplateCampaign"})),
    Scenario(scope_probing, frozenset({"ScopeProbing"})),
    Scenario(shared_token, frozenset({"TokenSharing"})),
    Scenario(withdrawn_token, frozenset({"RevokedTokenInUse"})),
    Scenario(forged_tokens, frozenset({"ForgedTokens"})),
    Scenario(personal_data, frozenset({"PiiBurst"})),
    Scenario(flagged_content, frozenset({"FlaggedContent"})),
    Scenario(volume_spike, frozenset({"VolumeSpike"})),
    Scenario(off_hours, frozenset({"OffHoursUse"}), NIGHT),
    Scenario(honest),
    Scenario(honest_heavy, frozenset({"VolumeSpike"})),
)


def plan() -> Document:
    """The plan that scenarios run under."""
    return demo_plan(internal={"clients": []})


def terms(scenario: Scenario) -> Document:
    """The partner's agreement: nothing in it is in a scenario's way."""
    quotas = {"concurrent_streams": 1_000, "output_tokens_per_day": 10**9, "requests_per_minute": 10**6}
    return open_agreement(models=[SMALL], quotas=quotas, **scenario.terms)
