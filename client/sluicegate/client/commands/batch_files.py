"""The two files of a batch: prompts in, one JSON object a line; results out, in whole lines, so that it can resume."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sluicegate.client.commands.terminal import as_json
from sluicegate.client.errors import ConfigurationError, InvalidRequest
from sluicegate.client.requests import GenerationConfig, Prompt

_KEYS = frozenset({"id", "prompt", "config", "purpose"})
_CONFIG_KEYS = frozenset(each.name for each in fields(GenerationConfig))
_LINE_START = b'{"id": '
_MOST_PROBLEMS = 20
_MAX_LINE_BYTES = 4 << 20
"""As long as the longest request."""


@dataclass(frozen=True, slots=True)
class Item:
    """One generation to make."""

    id: str
    prompt: Prompt
    config: GenerationConfig
    purpose: str | None
    """The item's own purpose; None: the command's."""


def read_items(path: Path, defaults: GenerationConfig) -> list[Item]:
    """All items of a file; `defaults` fills what an item's own config leaves out.

    An item without an id has its line's number. Raises ConfigurationError that names each bad line.
    """
    items: dict[str, Item] = {}
    problems: list[str] = []
    for number, line in _lines(path):
        try:
            item = _item(number, line, defaults)
        except (ValueError, RecursionError, InvalidRequest) as refused:
            problems.append(f"{path}:{number}: {refused}")
            continue
        if item.id in items:
            problems.append(f"{path}:{number}: id {item.id!r} stands in the file twice")
        items[item.id] = item
    if problems:
        more = len(problems) - _MOST_PROBLEMS
        shown = problems[:_MOST_PROBLEMS] + ([f"and {more} more"] if more > 0 else [])
        raise ConfigurationError("nothing was sent: " + "; ".join(shown))
    return list(items.values())


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            for number in itertools.count(1):
                line = file.readline(_MAX_LINE_BYTES + 1)
                if not line:
                    return
                if len(line) > _MAX_LINE_BYTES:
                    raise ConfigurationError(f"{path}:{number}: longer than {_MAX_LINE_BYTES} bytes; nothing was sent")
                if line.strip():
                    yield number, line
    except OSError as fault:
        raise ConfigurationError(f"{path} cannot be read: {fault.strerror}") from fault


def _item(number: int, line: bytes, defaults: GenerationConfig) -> Item:
    """Raises ValueError and InvalidRequest for a line that is no item."""
    document = _object(line)
    _refuse_others(document, _KEYS, "")
    identifier, purpose = document.get("id", str(number)), document.get("purpose")
    if not isinstance(identifier, str) or not identifier:
        raise ValueError("`id` is a text that is not empty")
    if purpose is not None and not isinstance(purpose, str):
        raise ValueError("`purpose` is a text")
    return Item(identifier, _prompt(document.get("prompt")), _config(document.get("config", {}), defaults), purpose)


def _object(line: bytes) -> dict[str, object]:
    try:
        document = json.loads(line)
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except json.JSONDecodeError as fault:
        raise ValueError(f"not JSON: {fault.msg} at column {fault.colno}") from None
    if not isinstance(document, dict):
        raise ValueError('a line is a JSON object, as {"prompt": "Once upon a time"}')
    return document


def _prompt(value: object) -> Prompt:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, list) and value and all(type(each) is int for each in value):
        return value
    raise ValueError("`prompt` is a text or a list of token ids, and not empty")


def _config(value: object, defaults: GenerationConfig) -> GenerationConfig:
    from sluicegate.client import wire

    if not isinstance(value, dict):
        raise ValueError("`config` is a JSON object")
    _refuse_others(value, _CONFIG_KEYS, "config.")
    changes: dict[str, Any] = dict(value)
    if "logit_bias" in changes:
        bias = changes["logit_bias"]
        if not isinstance(bias, dict):
            raise ValueError("`config.logit_bias` is a JSON object of token ids and numbers")
        changes["logit_bias"] = {int(token): number for token, number in bias.items()}
    config = replace(defaults, **changes)
    wire.config_message(config)
    return config


def _refuse_others(document: Mapping[str, object], known: frozenset[str], prefix: str) -> None:
    if unknown := sorted(document.keys() - known):
        raise ValueError(f"unknown key `{prefix}{unknown[0]}`; known are {', '.join(sorted(known))}")


class ResultFile:
    """The results so far, and the place to add more. One process writes at a time.

    Opening repairs a last line that was cut off. A file that holds anything but results is refused, and
    left as it is; so is a device or a pipe, which cannot be gone on with. Raises ConfigurationError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._succeeded: dict[str, bool] = {}
        try:
            if path.exists() and not path.is_file():
                raise ConfigurationError(f"{path} is no regular file")
            self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        except OSError as fault:
            raise ConfigurationError(f"{path} cannot be written: {fault.strerror}") from fault
        try:
            self._lock()
            self._load()
        except BaseException:
            self._file.close()
            raise

    def has(self, identifier: str) -> bool:
        """Whether the item has a result, good or bad."""
        return identifier in self._succeeded

    def has_succeeded(self, identifier: str) -> bool:
        """Whether the item has a good result."""
        return self._succeeded.get(identifier, False)

    def add(self, identifier: str, members: Mapping[str, object]) -> None:
        """Write an item's result as one line, at once."""
        line = as_json({"id": identifier, **members}).encode("ascii") + b"\n"
        assert line.startswith(_LINE_START)
        self._file.write(line)
        self._file.flush()
        self._succeeded[identifier] = "error" not in members

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as fault:
            raise ConfigurationError(f"{self._path} is being written by another run") from fault

    def _load(self) -> None:
        whole = 0
        for number, line in enumerate(self._file, 1):
            if not line.endswith(b"\n"):
                if not (line.startswith(_LINE_START) or _LINE_START.startswith(line)):
                    raise self._foreign(number)
                break
            try:
                document = _object(line)
            except ValueError:
                raise self._foreign(number) from None
            identifier = document.get("id")
            if not isinstance(identifier, str):
                raise self._foreign(number)
            self._succeeded[identifier] = "error" not in document
            whole += len(line)
        self._file.seek(whole)
        self._file.truncate()

    def _foreign(self, number: int) -> ConfigurationError:
        return ConfigurationError(f"{self._path}:{number} is no result of a batch; the file was left as it is")
