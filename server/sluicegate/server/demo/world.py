"""The files of the demo: settings, a policy with one agreement, an issuer's key and set, and a token for each caller.

They are written into one directory from the texts in template/, which are made to be read. The directory and its
secrets are their owner's only (modes 0700 and 0600).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from string import Template

from sluicegate.auth import add_to_key_set, create_signing_key, issue_token, write_signing_key
from sluicegate.server.audit import create_secret
from sluicegate.server.demo.errors import DirectoryUnusable, ModelsMissing

ISSUER = "https://issuer.localhost"
AUDIENCE = "sluicegate-demo"
AGREEMENT = "agr-example-lab-demo"
PURPOSE = "human-susceptibility"
MODELS = ("demo-xs", "demo-s", "demo-m", "demo-l")
MODELS_DIRECTORY = Path(__file__).parent / "models"
TOKEN_SECONDS = 3_600
"""The longest that server and agreement take: with --keep, people look around for a while."""

_TEMPLATE = Path(__file__).parent / "template"
_LOCK = "demo.lock"
_STATE = "sluicegate-state.db"
_WRITTEN = (
    *("policy", "tokens", "sluicegate.yaml", "issuer.jwk", "jwks.json", "server.log"),
    *("audit", "audit.jwk", "audit.secret", _STATE, f"{_STATE}-wal", f"{_STATE}-shm"),
)


def _scopes(*actions: str, models: Sequence[str] = MODELS) -> tuple[str, ...]:
    return tuple(f"{action}:{model}" for action in actions for model in models)


@dataclass(frozen=True, slots=True)
class Caller:
    """Someone with a token. Its scopes are wide on purpose: what is refused here, stage and agreement refuse."""

    name: str
    client: str
    scopes: tuple[str, ...]


VISITOR = Caller("visitor", "visitor", _scopes("generate"))
PARTNER = Caller("partner", "example-lab-eval", _scopes("generate") + _scopes("score", "logprobs", models=MODELS[2:]))
INSIDER = Caller("insider", "eval-team", _scopes("generate", "score", "logprobs"))
OPERATOR = Caller("operator", "operations", ("release:read", "release:withdraw"))
CALLERS = (VISITOR, PARTNER, INSIDER, OPERATOR)


@dataclass(frozen=True, slots=True)
class World:
    """Where everything is. Paths are as the user gave the directory, so that commands with them can be typed."""

    directory: Path

    @property
    def settings(self) -> Path:
        return self.directory / "sluicegate.yaml"

    @property
    def policy(self) -> Path:
        return self.directory / "policy"

    @property
    def release(self) -> Path:
        return self.policy / "release.yaml"

    @property
    def key(self) -> Path:
        return self.directory / "issuer.jwk"

    @property
    def audit(self) -> Path:
        return self.directory / "audit"

    @property
    def state(self) -> str:
        return f"sqlite:///{self.directory / _STATE}"

    @property
    def log(self) -> Path:
        return self.directory / "server.log"

    def token(self, caller: Caller) -> Path:
        return self.directory / "tokens" / caller.name


@contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """Hold the directory for one demo; it is made if need be.

    Raises DirectoryUnusable if something else than a demo has files in it, or another demo runs in it.
    """
    lock = directory / _LOCK
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not lock.exists() and any(directory.iterdir()):
            raise DirectoryUnusable(f"{directory} has files that are not a demo's: give another --directory")
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise DirectoryUnusable(f"{directory}: {error.strerror}: give another --directory") from error
    with os.fdopen(descriptor, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DirectoryUnusable(
                f"a demo runs in {directory} already: end it, or give another --directory"
            ) from None
        yield


def write_world(
    directory: Path, now: datetime, *, port: int = 0, metrics_port: int = 0, models: Path = MODELS_DIRECTORY
) -> World:
    """Write the files into a claimed directory; those of an earlier demo are replaced. `now` in UTC.

    Raises ModelsMissing.
    """
    facts = _facts(now, port, metrics_port) | _model_facts(models)
    _remove_earlier(directory)
    world = World(directory)
    for source in sorted(_TEMPLATE.rglob("*.*")):
        path = directory / source.relative_to(_TEMPLATE)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(Template(source.read_text(encoding="utf-8")).substitute(facts), encoding="utf-8")
    key = create_signing_key()
    write_signing_key(world.key, key)
    add_to_key_set(directory / "jwks.json", key)
    write_signing_key(directory / "audit.jwk", create_signing_key("EdDSA"))
    create_secret(directory / "audit.secret")
    (directory / "tokens").mkdir(mode=0o700)
    for caller in CALLERS:
        token = issue_token(
            key,
            issuer=ISSUER,
            audience=AUDIENCE,
            subject=caller.client,
            client_id=caller.client,
            scopes=caller.scopes,
            now=now.timestamp(),
            lifetime_seconds=TOKEN_SECONDS,
        )
        _write_secret(world.token(caller), token)
    return world


def _facts(now: datetime, port: int, metrics_port: int) -> dict[str, str]:
    document = (_TEMPLATE / "policy/agreements/example-lab.txt").read_bytes()
    signed, ends = now - timedelta(days=1), now + timedelta(days=365)
    return {
        "port": str(port),
        "metrics_port": str(metrics_port),
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "insider": INSIDER.client,
        "partner": PARTNER.client,
        "agreement": AGREEMENT,
        "purpose": PURPOSE,
        "document_sha256": hashlib.sha256(document).hexdigest(),
        "signed_on": f"{signed:%Y-%m-%d}",
        "valid_from": f"{signed:%Y-%m-%dT%H:%M:%SZ}",
        "valid_until": f"{ends:%Y-%m-%dT%H:%M:%SZ}",
    }


def _model_facts(models: Path) -> dict[str, str]:
    """What the plan says of each model, from SHA256SUMS and the models' own files. Raises ModelsMissing."""
    facts: dict[str, str] = {}
    try:
        lines = (models / "SHA256SUMS").read_text(encoding="ascii").splitlines()
        digests = {path: digest for digest, path in (line.split() for line in lines)}
        for model in MODELS:
            shape = json.loads((models / model / "evaluation.json").read_text(encoding="utf-8"))["shape"]
            facts |= {
                f"{model}_parameters": str(shape["parameters"]),
                f"{model}_context": str(shape["positions"]),
                f"{model}_vocabulary": str(shape["vocabulary"]),
                f"{model}_sha256": digests[f"{model}/model.safetensors"],
                f"{model}_source": json.dumps(str(models.resolve() / model)),
            }
    except (OSError, ValueError, KeyError) as error:
        raise ModelsMissing(f"{models} lacks files of the demo models ({error}): install Sluicegate again") from error
    return {name.replace("-", "_"): fact for name, fact in facts.items()}


def _remove_earlier(directory: Path) -> None:
    for name in _WRITTEN:
        path = directory / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _write_secret(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text + "\n")
