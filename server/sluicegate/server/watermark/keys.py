"""Watermark keys: one for a model and an epoch, each in a file of its own; made here, read here, shown nowhere.

A key file holds 32 random bytes. What the scheme works with is derived from these, the model and the epoch
(HMAC-SHA256, RFC 2104), so that a secret that was copied from one model to another still marks each in its own way.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sluicegate.server.watermark.errors import WatermarkKeyError
from sluicegate.server.watermark.scheme import DEPTH, Scheme

KIND = "sluicegate/watermark-key/v1"
SECRET_BYTES = 32
MOST_KEYS = 256
MOST_FILE_BYTES = 4096
LAST_EPOCH = 1_000_000

_MODEL = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_HEX = re.compile(rf"[0-9a-f]{{{2 * SECRET_BYTES}}}")
_ID_DIGITS = 16  # 64 bits: enough to tell keys apart, and nothing to find a key by


@dataclass(frozen=True, slots=True)
class WatermarkKey:
    """What one model's output is marked by for a time. `epoch`: 1 and up; a model's highest is the one that marks."""

    model: str
    epoch: int
    secret: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """Names the key where it must not be shown: `wm-` and hex digits of a keyed hash."""
        return "wm-" + self._derived("id").hex()[:_ID_DIGITS]

    @property
    def layers(self) -> tuple[int, ...]:
        """The key of each layer, 0 to 2**63 - 1."""
        return tuple(int.from_bytes(self._derived(f"layer {n}")[:8], "big") >> 1 for n in range(DEPTH))

    @property
    def table_seed(self) -> int:
        """The seed of the table of coins, 32 bits."""
        return int.from_bytes(self._derived("table")[:4], "big")

    def scheme(self) -> Scheme:
        """The g-values under this key. Takes a tenth of a second, and 4 MiB as long as it is kept."""
        return Scheme(self.layers, self.table_seed)

    def _derived(self, purpose: str) -> bytes:
        message = "\n".join((KIND, self.model, str(self.epoch), purpose))
        return hmac.new(self.secret, message.encode(), hashlib.sha256).digest()


class Keyring:
    """The keys that a server holds."""

    def __init__(self, keys: Iterable[WatermarkKey] = ()) -> None:
        """At most one for a model and an epoch."""
        self._keys: dict[str, list[WatermarkKey]] = {}
        for key in sorted(keys, key=lambda each: each.epoch):
            self._keys.setdefault(key.model, []).append(key)

    def marks(self, model: str) -> WatermarkKey | None:
        """The key that a model's output is marked by: its latest; None if it has none."""
        return self._keys[model][-1] if model in self._keys else None

    def all(self, model: str) -> Sequence[WatermarkKey]:
        """Every key that a model's output may be marked by, the earliest first."""
        return tuple(self._keys.get(model, ()))


def create_key(directory: Path, model: str, epoch: int | None = None) -> tuple[WatermarkKey, Path]:
    """Write a new key into a directory, readable by its owner only; by default of the epoch after the model's last.

    Raises WatermarkKeyError rather than replace a file.
    """
    epochs = [key.epoch for key in read_keys(directory) if key.model == model]
    epoch = max(epochs, default=0) + 1 if epoch is None else epoch
    if not _MODEL.fullmatch(model) or not 1 <= epoch <= LAST_EPOCH or epoch in epochs:
        raise WatermarkKeyError(
            f"a key needs a model id of the policy, and an epoch from 1 to {LAST_EPOCH} that the model has no key of"
        )
    key, path = WatermarkKey(model, epoch, secrets.token_bytes(SECRET_BYTES)), directory / f"{model}.{epoch}.json"
    document = {"kind": KIND, "model": model, "epoch": epoch, "secret": key.secret.hex()}
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise WatermarkKeyError(f"{path}: {error.strerror}") from error
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        json.dump(document, file)
        file.write("\n")
    return key, path


def read_keys(directory: Path) -> list[WatermarkKey]:
    """The keys of a directory's `*.json` files. Names with a dot before them are not looked at: a mounted secret's own.

    Raises WatermarkKeyError, also if everybody could read a file.
    """
    try:
        paths = sorted(path for path in directory.iterdir() if path.suffix == ".json" and path.name[0] != ".")
    except OSError as error:
        raise WatermarkKeyError(f"{directory}: {error.strerror}") from error
    if len(paths) > MOST_KEYS:
        raise WatermarkKeyError(f"{directory} holds {len(paths)} keys; a server takes {MOST_KEYS}")
    found: dict[tuple[str, int], WatermarkKey] = {}
    for path in paths:
        key = _read(path)
        if (key.model, key.epoch) in found:
            raise WatermarkKeyError(f"{path}: another file has a key of this model and epoch, too; remove one")
        found[key.model, key.epoch] = key
    return list(found.values())


def _read(path: Path) -> WatermarkKey:
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o007:
                raise WatermarkKeyError(f"{path} can be read by everybody; run: chmod o-rwx {path}")
            content = file.read(MOST_FILE_BYTES + 1)
    except OSError as error:
        raise WatermarkKeyError(f"{path}: {error.strerror}") from error
    try:
        document: object = json.loads(content) if len(content) <= MOST_FILE_BYTES else None
    except (ValueError, RecursionError):
        document = None
    match document:
        case {"kind": str(kind), "model": str(model), "epoch": int(epoch), "secret": str(secret), **others} if (
            kind == KIND
            and not others
            and _MODEL.fullmatch(model)
            and type(epoch) is int
            and 1 <= epoch <= LAST_EPOCH
            and _HEX.fullmatch(secret)
        ):
            return WatermarkKey(model, epoch, bytes.fromhex(secret))
    # Without the error that says where: what it quotes may be the secret.
    raise WatermarkKeyError(f"{path} is no watermark key; make one: sluicegate watermark new-key")
