"""A server process as users run it, for a bench: settings, keys, a policy with partners, and clients that connect."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from sluicegate.auth import SigningKey, add_to_key_set, create_signing_key, issue_token, write_signing_key
from sluicegate.client import Client, StaticToken
from sluicegate.server.audit import create_secret
from sluicegate.server.demo.server import started

ISSUER, AUDIENCE = "https://issuer.example", "bench"
PROGRAM = Path(sys.executable).with_name("sluicegate")
CALL_SECONDS = 600.0
NEVER_REACHED = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What is served, to whom. Every check is on: tokens, withdrawals, decision, quotas, audit log, signals."""

    model: str
    checkpoint: Path
    parameters: int
    slots: int
    queued: int = 256  # calls that one caller may have waiting
    dtype: str = "auto"
    step_tokens: int | None = None  # None: the server's default
    threads: int | None = None
    partners: Sequence[str] = ("a",)
    more: Mapping[str, object] = field(default_factory=dict)  # further sections of the settings


@dataclass(frozen=True, slots=True)
class Served:
    """A server that takes calls."""

    calls: str
    metrics: str
    pid: int
    key: SigningKey
    model: str

    @asynccontextmanager
    async def client(self, partner: str) -> AsyncIterator[Client]:
        """A connected client of this partner: what is measured is not the connection."""
        token = StaticToken(token_of(partner, self.key, self.model))
        async with Client(self.calls, token=token, timeout=CALL_SECONDS) as client:
            await client.whoami()
            yield client


@asynccontextmanager
async def served(directory: Path, deployment: Deployment) -> AsyncIterator[Served]:
    """Start the server in `directory`, which is made; stop it on the way out. Raises ServerNotStarted."""
    key = create_signing_key()
    settings = write_files(directory, key, deployment)
    variables = dict(os.environ)
    with started(PROGRAM, settings, directory / "server.log", variables) as server:
        found = await asyncio.to_thread(server.wait_until_serving, lambda _: None)
        yield Served(found.calls, found.metrics, server.pid, key, deployment.model)


def token_of(partner: str, key: SigningKey, model: str) -> str:
    """A token of this partner's client, signed now."""
    return issue_token(
        key,
        issuer=ISSUER,
        audience=AUDIENCE,
        subject=partner,
        client_id=f"client-{partner}",
        scopes=[f"generate:{model}"],
        now=time.time(),
    )


def write_files(directory: Path, key: SigningKey, deployment: Deployment) -> Path:
    """Settings, key set, and a policy with partners whose quotas are never reached. Gives the settings' path."""
    (directory / "policy/agreements").mkdir(parents=True)
    add_to_key_set(directory / "jwks.json", key)
    write_signing_key(directory / "audit.jwk", create_signing_key("EdDSA"))
    create_secret(directory / "audit.secret")
    model = deployment.model
    described = {"parameters": deployment.parameters, "source": str(deployment.checkpoint), "license": "MIT"}
    release = {
        "apiVersion": "sluicegate/release/v1",
        "models": {model: described},
        "stages": [{"id": "s1", "name": "first", "open": {model: "partner"}}],
        "active": "s1",
        "public": {"anonymous": "refuse", "quotas": {"output_tokens_per_call": 1}},
    }
    hosted = {"device": "cpu", "dtype": deployment.dtype, "slots": deployment.slots}
    if deployment.step_tokens is not None:
        hosted["step_tokens"] = deployment.step_tokens
    settings = {
        "listen": "127.0.0.1:0",
        "policy": {"directory": "policy", "signatures": "off"},
        "tokens": {"issuers": [{"issuer": ISSUER, "audience": AUDIENCE, "keys": {"file": "jwks.json"}}]},
        "models": {model: hosted},
        "engine": {} if deployment.threads is None else {"threads": deployment.threads},
        "limits": {
            "queued_requests": 4 * deployment.queued,  # of which one caller may have a quarter
            "peer_calls_per_minute": 1_000_000,
        },
        "drain": {"announce_seconds": 0, "grace_seconds": 5},
        "metrics": {"listen": "127.0.0.1:0"},
        "audit": {"directory": "audit", "key": "audit.jwk", "secret": "audit.secret"},
        **deployment.more,
    }
    for partner in deployment.partners:
        _write(directory / f"policy/agreements/{partner}.yaml", _agreement(partner, model))
    _write(directory / "policy/release.yaml", release)
    _write(directory / "sluicegate.yaml", settings)
    return directory / "sluicegate.yaml"


def _agreement(partner: str, model: str) -> dict[str, object]:
    quotas = ("concurrent_streams", "requests_per_minute", "output_tokens_per_minute", "output_tokens_per_day")
    return {
        "id": f"agr-{partner}",
        "partner": f"partner-{partner}",
        "status": "active",
        "legal": {"document": "Agreement", "sha256": "0" * 64, "signed_on": "2026-01-12"},
        "valid": {"from": "2026-01-20T00:00:00Z", "until": "2099-01-01T00:00:00Z"},
        "clients": [{"issuer": ISSUER, "client": f"client-{partner}"}],
        "models": [model],
        "actions": ["generate"],
        "timezone": "UTC",
        "quotas": dict.fromkeys(quotas, NEVER_REACHED),
    }


def _write(path: Path, document: object) -> None:
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
