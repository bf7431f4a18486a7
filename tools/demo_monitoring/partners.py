"""The partners of this demo beside example-lab: each with an agreement like that one, and a token."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from sluicegate.auth import SigningKey, create_signing_key, issue_token, read_signing_key
from sluicegate.server.demo.world import AUDIENCE, ISSUER, TOKEN_SECONDS, World

MODEL = "demo-m"
"""The model that stage s2 opens to partners."""
CLOSED_MODELS = ("demo-l", "demo-xl")
"""One that it does not open to them, and one that there is not: callers cannot tell."""
HONEST = "example-lab"
CAMPAIGN = "bulk-letters"
CURIOUS = "curious-lab"
ROAMING = "roaming-lab"
_ADDED = (CAMPAIGN, CURIOUS, ROAMING)
_CLIENTS = {HONEST: "example-lab-eval"}


@dataclass(frozen=True, slots=True)
class Tokens:
    """What the callers have. `narrow` is the curious partner's, with a scope for one model only."""

    of: dict[str, str]
    narrow: str
    forged: str


def client_of(partner: str) -> str:
    """The `client_id` of a partner's tokens."""
    return _CLIENTS.get(partner, f"{partner}-app")


def add_partners(world: World) -> None:
    """Write their agreements into the world's policy."""
    agreements = world.policy / "agreements"
    text = (agreements / f"{HONEST}.yaml").read_text(encoding="utf-8")
    for partner in _ADDED:
        document = yaml.safe_load(text)
        document |= {"id": f"agr-{partner}-demo", "partner": partner}
        document["clients"][0]["client"] = client_of(partner)
        (agreements / f"{partner}.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


def issue_tokens(world: World) -> Tokens:
    """Tokens of all partners, and one that somebody signed with a key of the same name as the issuer's."""
    key = read_signing_key(world.key)
    forger = create_signing_key(key_id=key.key_id)
    now = time.time()

    def issued(partner: str, models: Sequence[str] = (MODEL, *CLOSED_MODELS), signer: SigningKey = key) -> str:
        return issue_token(
            signer,
            issuer=ISSUER,
            audience=AUDIENCE,
            subject=client_of(partner),
            client_id=client_of(partner),
            scopes=[f"generate:{model}" for model in models],
            now=now,
            lifetime_seconds=TOKEN_SECONDS,
        )

    return Tokens(
        of={partner: issued(partner) for partner in (HONEST, *_ADDED)},
        narrow=issued(CURIOUS, (MODEL,)),
        forged=issued(HONEST, signer=forger),
    )
