"""The files of a server process: settings, policy, agreement, signing key, key set, certificates."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from sluicegate.auth import SigningKey, create_signing_key, issue_token, write_signing_key
from sluicegate.server.audit import create_secret
from sluicegate.server.gpt2.config import load_config

ISSUER = "https://issuer.example"
AUDIENCE = "sluicegate.example"
DEMO_MODELS = Path(__file__).resolve().parents[2] / "server/sluicegate/server/demo/models"
APP, LAB_APP, EVAL_TEAM = "app", "lab-app", "eval-team"
"""Clients: of the public, of the partner, of the operator."""

Document = dict[str, Any]

_QUOTAS = {"requests_per_minute": 1_000_000, "output_tokens_per_call": 4_096, "concurrent_streams": 4_096}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosted:
    """A model to serve, and to whom it is open at first."""

    directory: Path
    open_to: str = "public"
    device: str = "cpu"
    slots: int = 8


DEMO = {
    "demo-xs": Hosted(directory=DEMO_MODELS / "demo-xs"),
    "demo-s": Hosted(directory=DEMO_MODELS / "demo-s", open_to="partner"),
    "demo-next": Hosted(directory=DEMO_MODELS / "demo-xs", open_to="internal"),
}
"""A model for each audience."""


class Deployment:
    """A directory of files. Those that a server takes notice of while it runs can be written anew."""

    def __init__(self, directory: Path, models: Mapping[str, Hosted] | None = None, **settings: object) -> None:
        self.directory = directory
        self.models = dict(DEMO if models is None else models)
        self.config = directory / "sluicegate.yaml"
        self.release_file = directory / "policy/release.yaml"
        self.agreement_file = directory / "policy/agreements/example-lab.yaml"
        self.key_set_file = directory / "jwks.json"
        self.key = create_signing_key(key_id="first")
        self.agreement_file.parent.mkdir(parents=True)
        self.publish_keys(self.key)
        write_signing_key(directory / "audit.jwk", create_signing_key("EdDSA"))
        create_secret(directory / "audit.secret")
        self.write_release()
        if any(model.open_to == "partner" for model in self.models.values()):
            _write(self.agreement_file, self.agreement())
        _write(self.config, {**self.settings(), **settings})

    def settings(self) -> Document:
        """All settings, as plain data."""
        keys = {"file": str(self.key_set_file)}
        return {
            "listen": "127.0.0.1:0",
            "policy": {"directory": "policy", "signatures": "off", "reload_seconds": 0.2},
            "tokens": {"issuers": [{"issuer": ISSUER, "audience": AUDIENCE, "keys": keys}]},
            "models": {name: {"device": each.device, "slots": each.slots} for name, each in self.models.items()},
            "engine": {"threads": 1, "load_seconds": 120},
            "limits": {"peer_calls_per_minute": 1_000_000, "denials_per_minute": 1_000_000},
            "drain": {"announce_seconds": 0.2, "grace_seconds": 60},
            "metrics": {"listen": "127.0.0.1:0"},
            "audit": {"directory": "audit", "key": "audit.jwk", "secret": "audit.secret", "replica": "gate-0"},
        }

    def release(self, active: str = "first") -> Document:
        """The release plan: at stage `first` each model is open as it was given, at stage `last` to everybody."""
        clients = [{"issuer": ISSUER, "client": EVAL_TEAM}]
        return {
            "apiVersion": "sluicegate/release/v1",
            "models": {name: _entry(each.directory) for name, each in self.models.items()},
            "stages": [
                {"id": "first", "name": "first", "open": {name: each.open_to for name, each in self.models.items()}},
                {"id": "last", "name": "last", "open": dict.fromkeys(self.models, "public")},
            ],
            "active": active,
            "internal": {"clients": clients},
            "public": {"anonymous": "refuse", "quotas": _QUOTAS},
        }

    def agreement(self, **changes: object) -> Document:
        """The partner's agreement."""
        return {
            "id": "agr-example-lab",
            "partner": "example-lab",
            "status": "active",
            "legal": {"document": "Software Access Agreement", "sha256": "0" * 64, "signed_on": "2026-01-12"},
            "valid": {"from": "2026-01-20T00:00:00Z", "until": "2099-01-01T00:00:00Z"},
            "clients": [{"issuer": ISSUER, "client": LAB_APP}],
            "models": [name for name, each in self.models.items() if each.open_to == "partner"],
            "actions": ["generate", "score"],
            "timezone": "UTC",
            "quotas": _QUOTAS,
            **changes,
        }

    def write_release(self, active: str = "first") -> None:
        """Write the release plan anew, with this stage active."""
        _write(self.release_file, self.release(active))

    def write_agreement(self, **changes: object) -> None:
        """Write the agreement anew."""
        _write(self.agreement_file, self.agreement(**changes))

    def add_agreement(self, name: str, client: str, **changes: object) -> None:
        """Write one more agreement, with a client of its own."""
        clients = [{"issuer": ISSUER, "client": client}]
        document = self.agreement(id=name, clients=clients, **changes)
        _write(self.agreement_file.with_name(f"{name}.yaml"), document)

    def write_settings(self, **changes: object) -> None:
        """Write the settings anew; a server that runs does not read them again."""
        _write(self.config, {**self.settings(), **changes})

    def publish_keys(self, *keys: SigningKey) -> None:
        """Replace the key set by these keys."""
        new = self.key_set_file.with_suffix(".new")
        new.write_text(json.dumps({"keys": [key.public_jwk() for key in keys]}))
        new.replace(self.key_set_file)

    def token(
        self, client: str = APP, *, scopes: tuple[str, ...] | None = None, key: SigningKey | None = None, **more: Any
    ) -> str:
        """A token for a client; without `scopes` it may do everything with every model."""
        actions = ("generate", "score", "logprobs")
        everything = tuple(f"{action}:{model}" for action in actions for model in self.models)
        return issue_token(
            key or self.key,
            issuer=ISSUER,
            audience=AUDIENCE,
            subject="alice",
            client_id=client,
            scopes=everything if scopes is None else scopes,
            now=time.time(),
            lifetime_seconds=3_600,
            **more,
        )


def zone_at_noon() -> str:
    """A time zone in which it is about noon, so that no day ends during a test. Their names have the sign reversed."""
    ahead = 12 - datetime.now(UTC).hour
    return f"Etc/GMT{-ahead:+d}" if ahead else "Etc/GMT"


def _entry(directory: Path) -> Document:
    """A policy's entry for the checkpoint in a directory."""
    entry: Document = {"parameters": load_config(directory).parameters, "source": str(directory), "license": "MIT"}
    weights = directory / "model.safetensors"
    if weights.is_file():
        entry["weights_sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    return entry


def _write(path: Path, document: Document) -> None:
    """Whole or not at all: a server may be reading."""
    new = path.with_suffix(".new")
    new.write_text(yaml.safe_dump(document, sort_keys=False))
    new.replace(path)
