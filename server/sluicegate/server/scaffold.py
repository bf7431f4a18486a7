"""A first set of files to run a server with: settings, a policy of one stage, keys, the secret of the audit log."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from sluicegate.auth import Policy, add_to_key_set, create_signing_key, load_policy, write_signing_key
from sluicegate.server.audit import create_secret
from sluicegate.server.errors import ServerError, SettingsError
from sluicegate.server.settings_file import load_settings

ISSUER = "https://issuer.localhost"
AUDIENCE = "sluicegate"

PARAMETERS: Mapping[str, int] = {
    "openai-community/gpt2": 124_439_808,
    "openai-community/gpt2-medium": 354_823_168,
    "openai-community/gpt2-large": 774_030_080,
    "openai-community/gpt2-xl": 1_557_611_200,
}
"""Of the hub's GPT-2s; a tied head counts once. Those of a directory are read from its config.json."""


@dataclass(frozen=True, slots=True)
class Scaffold:
    """What was written."""

    directory: Path
    models: tuple[str, ...]
    policy: Policy
    issuer: str = ISSUER
    audience: str = AUDIENCE


def write_scaffold(directory: Path, models: Sequence[tuple[str, str]]) -> Scaffold:
    """Write the files into a new directory. `models`: ids with their sources, smallest first; the first is public.

    Raises SettingsError if the directory has something in it already or cannot be written, ServerError for a source
    that is neither a directory nor one of the hub's GPT-2s, ModelLoadError for a directory that is no checkpoint,
    PolicyError for ids that no policy may have. Nothing is left of it then.
    """
    try:
        if directory.exists() and any(directory.iterdir()):
            raise SettingsError([f"{directory}: has files in it; name a new directory"])
        return _write_all(directory, models)
    except OSError as error:
        raise SettingsError([f"{directory}: cannot be written: {error.strerror}"]) from error


def _write_all(directory: Path, models: Sequence[tuple[str, str]]) -> Scaffold:
    entries = {name: _entry(source) for name, source in models}
    stage = {name: "public" if index == 0 else "internal" for index, name in enumerate(entries)}
    release = {
        "apiVersion": "sluicegate/release/v1",
        "models": entries,
        "stages": [{"id": "s1", "name": "first", "open": stage}],
        "active": "s1",
        "internal": {"clients": [{"issuer": ISSUER, "client": "me-internal"}]},
        "public": {
            "anonymous": "refuse",
            "quotas": {"output_tokens_per_call": 512, "concurrent_streams": 4, "requests_per_minute": 60},
        },
    }
    settings = {
        "listen": "127.0.0.1:50051",
        "policy": {"directory": "policy", "signatures": "off"},
        "tokens": {"issuers": [{"issuer": ISSUER, "audience": AUDIENCE, "keys": {"file": "jwks.json"}}]},
        "audit": {"directory": "audit", "key": "audit.jwk", "secret": "audit.secret"},
        "models": {name: {} for name in entries},
    }
    (directory / "policy").mkdir(parents=True, exist_ok=True)
    try:
        _write(directory / "policy/release.yaml", "Which model is open to whom. See docs/policy.md.", release)
        policy = load_policy(directory / "policy", None)
        _write(directory / "sluicegate.yaml", "Settings of `sluicegate serve`. See docs/configuration.md.", settings)
        load_settings(directory / "sluicegate.yaml")
        key = create_signing_key()
        write_signing_key(directory / "issuer.jwk", key)
        add_to_key_set(directory / "jwks.json", key)
        write_signing_key(directory / "audit.jwk", create_signing_key("EdDSA"))
        create_secret(directory / "audit.secret")
    except BaseException:
        shutil.rmtree(directory)  # it was empty, and a second try must find it so
        raise
    return Scaffold(directory, tuple(entries), policy)


def _entry(source: str) -> dict[str, object]:
    """A policy's entry for a model."""
    if source in PARAMETERS:
        return {"parameters": PARAMETERS[source], "source": source, "license": "MIT"}
    path = Path(source).expanduser().resolve()
    if not path.is_dir():
        raise ServerError(f"{source}: no such directory, and none of {', '.join(PARAMETERS)}")
    from sluicegate.server.gpt2.config import load_config

    entry: dict[str, object] = {"parameters": load_config(path).parameters, "source": str(path), "license": "unknown"}
    weights = path / "model.safetensors"
    if weights.is_file():
        with weights.open("rb") as file:
            entry["weights_sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    return entry


def _write(path: Path, comment: str, content: object) -> None:
    path.write_text(f"# {comment}\n{yaml.safe_dump(content, sort_keys=False)}", encoding="utf-8")
