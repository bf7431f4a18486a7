"""The acts of the tour, in order: who does what, and which alerts must come of it."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from sluicegate.server.demo.shell import Outcome as ShellOutcome
from sluicegate.server.demo.world import ISSUER, OPERATOR, World
from tools.demo_monitoring import traffic
from tools.demo_monitoring.lookout import Alert
from tools.demo_monitoring.partners import CAMPAIGN, CURIOUS, HONEST, ROAMING, Tokens, client_of
from tools.demo_monitoring.verdict import Scenario

PAGES = "partner-care-pages"
TICKETS = "partner-care-tickets"
"""Receivers of the project's Alertmanager configuration."""
NETWORKS = 8
_STREAM_TOKENS = (509, 449, 389, 331)
"""Of streams side by side: were they alike, all would end at once, and a withdrawal just then would cut none."""
_STREAMING_SECONDS = 2.0
"""So long the streams run before they are cut, for the cut to be one."""
_CUT_SECONDS = 10.0
_JUSTIFICATION = "Misuse is being looked into."
_REPLAYS = 12


@dataclass(frozen=True, slots=True)
class Stage:
    """What an act works with. `tell` shows a sentence; `type` shows a command and runs it."""

    world: World
    target: str
    tokens: Tokens
    tell: Callable[[str], None]
    type: Callable[[str], Awaitable[ShellOutcome]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """`drive` does it, and gives what was not as narrated. `advice` names the alert whose runbook is shown."""

    title: str
    say: str
    scenario: Scenario
    drive: Callable[[Stage], Awaitable[Sequence[str]]]
    advice: str | None = None


def acts(*, has_networks: bool) -> list[Act]:
    """All acts that this machine can show."""
    return [_HONEST, _LETTERS, _CLOSED, _PROBING, _FORGED, *([_SHARED] if has_networks else [])]


async def _honest(stage: Stage) -> Sequence[str]:
    outcome = await traffic.ask_all(stage.target, stage.tokens.of[HONEST], traffic.varied_prompts(60))
    return outcome.expected(served=60)


async def _letters(stage: Stage) -> Sequence[str]:
    outcome = await traffic.ask_all(stage.target, stage.tokens.of[CAMPAIGN], traffic.letters(180))
    return outcome.expected(served=180)


async def _closed(stage: Stage) -> Sequence[str]:
    """The operator follows the runbook of the act before, while the client streams."""
    token = stage.tokens.of[CAMPAIGN]
    streams = [
        asyncio.create_task(traffic.stream_until_refused(stage.target, token, tokens)) for tokens in _STREAM_TOKENS
    ]
    try:
        await asyncio.sleep(_STREAMING_SECONDS)
        stage.tell(f"{client_of(CAMPAIGN)} has {len(streams)} long streams open. The operator types:")
        outcome = await stage.type(withdrawal(stage.world))
        if outcome.exit_code:
            return [f"withdraw ended with exit code {outcome.exit_code}"]
        async with asyncio.timeout(_CUT_SECONDS):
            ends = await asyncio.gather(*streams)
    except TimeoutError:
        return ["the streams did not end"]
    finally:
        for stream in streams:
            stream.cancel()
    reason = ends[0][1]
    stage.tell(f"All {len(ends)} streams have ended, for the reason {reason}: {max(ends)[0]} pieces had come of one.")
    stage.tell(f"Its program does not give up, and calls {_REPLAYS} times with the same token.")
    replayed = await traffic.ask_all(stage.target, token, traffic.letters(_REPLAYS))
    problems = replayed.expected(served=0, reasons=frozenset({"CALLER_WITHDRAWN"}))
    if {end[1] for end in ends} != {"CALLER_WITHDRAWN"}:
        problems.append(f"the streams ended for {sorted({end[1] for end in ends})}")
    if not any(pieces for pieces, _ in ends):
        problems.append("no stream was cut while it ran")
    return problems


async def _probing(stage: Stage) -> Sequence[str]:
    outcome = await traffic.probe(stage.target, stage.tokens.of[CURIOUS], stage.tokens.narrow)
    return outcome.expected(served=0, reasons=frozenset({"MODEL_NOT_RELEASED", "SCOPE_MISSING"}))


async def _forged(stage: Stage) -> Sequence[str]:
    outcome = await traffic.ask_all(stage.target, stage.tokens.forged, traffic.varied_prompts(40))
    return outcome.expected(served=0, reasons=frozenset({"TOKEN_SIGNATURE_INVALID"}))


async def _shared(stage: Stage) -> Sequence[str]:
    outcome = await traffic.ask_from_networks(stage.target, stage.tokens.of[ROAMING], NETWORKS)
    return outcome.expected(served=NETWORKS)


def withdrawal(world: World) -> str:
    """What the runbook of TemplateCampaign has the operator type, for this client."""
    words = ["sluicegate", "withdraw", "client", client_of(CAMPAIGN), "--iss", ISSUER]
    return shlex.join([*words, "--justification", _JUSTIFICATION, "--token-file", str(world.token(OPERATOR))])


_HONEST = Act(
    title="An honest partner",
    say=f"{HONEST} has 60 different prompts continued. Nothing must come of it, now or later.",
    scenario=Scenario(name="honest partner", partner=HONEST),
    drive=_honest,
)
_LETTERS = Act(
    title="One letter to many",
    say=f"{CAMPAIGN} fills the template of a phishing letter 180 times. Two alerts fire: a template is being "
    "filled, and prompts repeat. People hear of the graver one only.",
    scenario=Scenario(
        name="phishing letters",
        partner=CAMPAIGN,
        expects={Alert("TemplateCampaign", CAMPAIGN): PAGES, Alert("MassDuplicates", CAMPAIGN): None},
    ),
    drive=_letters,
    advice="TemplateCampaign",
)
_CLOSED = Act(
    title="The operator closes the client",
    say="A withdrawal counts within a second, in running streams too.",
    scenario=Scenario(name="withdrawn token, replayed", expects={Alert("RevokedTokenInUse"): TICKETS}),
    drive=_closed,
    advice="RevokedTokenInUse",
)
_PROBING = Act(
    title="Somebody tries doors",
    say=f"{CURIOUS} asks 60 times for models that are not open to it, or that its token has no scope for.",
    scenario=Scenario(name="scope probing", partner=CURIOUS, expects={Alert("ScopeProbing", CURIOUS): TICKETS}),
    drive=_probing,
    advice="ScopeProbing",
)
_FORGED = Act(
    title="Forged tokens",
    say="Somebody signs tokens with a key of the same name as the issuer's, and tries them 40 times. Nothing in them "
    "is believed, so the alert names no partner.",
    scenario=Scenario(name="forged tokens", expects={Alert("ForgedTokens"): TICKETS}),
    drive=_forged,
    advice="ForgedTokens",
)
_SHARED = Act(
    title="A token that gets around",
    say=f"One token of {ROAMING} is used from {NETWORKS} networks.",
    scenario=Scenario(name="shared token", partner=ROAMING, expects={Alert("TokenSharing", ROAMING): TICKETS}),
    drive=_shared,
    advice="TokenSharing",
)
