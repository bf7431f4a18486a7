"""Reads a settings file. The only module that reads the environment.

Every problem is reported at once, with the path of the setting and what is allowed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from pydantic import ValidationError
from yaml.constructor import ConstructorError

from sluicegate.server.config import Section, Settings, State
from sluicegate.server.errors import SettingsError

SETTINGS_FILE_VARIABLE = "SLUICEGATE_CONFIG"
MAX_SETTINGS_BYTES = 1 << 20
OFF = "literal['off']"
SECTIONS_OR_OFF = frozenset({"Signatures", "Audit"})
"""How pydantic names the alternatives of such a setting in the place of a problem."""


def load_settings(path: Path | None, overrides: Mapping[str, object] | None = None) -> Settings:
    """Read settings from a YAML file, or from the one that SLUICEGATE_CONFIG names.

    `overrides` maps dotted paths to values that win over the file (the command line's flags). Relative paths in
    the file are relative to the file. Raises SettingsError with every problem.
    """
    if path is None:
        named = os.environ.get(SETTINGS_FILE_VARIABLE)
        if not named:
            raise SettingsError([f"no settings file: give --config FILE or set {SETTINGS_FILE_VARIABLE}"])
        path = Path(named)
    data = _read(path)
    for dotted, value in (overrides or {}).items():
        _set(data, dotted.split("."), value)
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        raise SettingsError([f"{path}: {_describe(problem)}" for problem in _causes(error)]) from None
    return _anchored(settings, path.resolve().parent)


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping, where PyYAML takes the last one in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise ConstructorError(None, None, f"{key} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_SETTINGS_BYTES:
            raise SettingsError([f"{path}: larger than {MAX_SETTINGS_BYTES} bytes"])
        data = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)  # noqa: S506  (it is a safe loader)
    except FileNotFoundError:
        raise SettingsError([f"{path}: no such file; `sluicegate init` writes a first one"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"{path}: cannot be read: {error}"]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # the latter two: no such day, endless nesting
        raise SettingsError([f"{path}: not YAML: {error}"]) from None
    if not isinstance(data, dict):
        raise SettingsError([f"{path}: expected a mapping of settings"])
    return data


def _set(data: dict[str, Any], keys: list[str], value: object) -> None:
    for key in keys[:-1]:
        inner = data.get(key)
        data[key] = data = {**inner} if isinstance(inner, dict) else {}
    data[keys[-1]] = value


def _causes(error: ValidationError) -> list[dict[str, Any]]:
    """The problems, without those that only follow from others.

    A list with a bad entry also counts as too short; of a section that may be `off`, both are tried.
    """
    problems: list[dict[str, Any]] = [{**problem} for problem in error.errors()]
    sections = {problem["loc"][:-1] for problem in problems if problem["type"] == "model_type"}  # no sections at all
    problems = [problem for problem in problems if problem["type"] != "model_type" or not _is_choice(problem)]
    problems = [problem for problem in problems if not _is_off(problem) or problem["loc"][:-1] in sections]
    places = [problem["loc"] for problem in problems]
    return [
        problem
        for problem in problems
        if problem["type"] != "too_short"
        or not any(place[: len(problem["loc"])] == problem["loc"] != place for place in places)
    ]


def _is_choice(problem: Mapping[str, Any]) -> bool:
    return bool(SECTIONS_OR_OFF.intersection(problem["loc"][-1:]))


def _is_off(problem: Mapping[str, Any]) -> bool:
    return bool(problem["loc"][-1:] == (OFF,))


def _describe(problem: Mapping[str, Any]) -> str:
    parts = [str(part) for part in problem["loc"] if part != OFF and part not in SECTIONS_OR_OFF]
    place = ".".join(parts) or "settings"
    if _is_off(problem):
        return f"{place}: expected a section, or off"
    if problem["type"] == "extra_forbidden":
        return f"{place}: no such setting"
    if problem["type"] == "missing":
        return f"{place}: missing"
    return f"{place}: {problem['msg'].removeprefix('Value error, ')}"


def _anchored(settings: Settings, base: Path) -> Settings:
    """The same settings with every path absolute."""

    def anchor(value: object) -> object:
        if isinstance(value, Path):
            return base / value
        if isinstance(value, State):
            return value.model_copy(update={"url": _anchored_url(value.url, base), "url_file": anchor(value.url_file)})
        if isinstance(value, Section):
            return value.model_copy(update={name: anchor(item) for name, item in value})
        if isinstance(value, tuple):
            return tuple(map(anchor, value))
        return value

    anchored = anchor(settings)
    assert isinstance(anchored, Settings)
    return anchored


def _anchored_url(url: str, base: Path) -> str:
    """A state URL with the file of a relative SQLite one below `base`."""
    relative = url.removeprefix("sqlite:///")
    if relative == url or relative.startswith("/"):
        return url
    return f"sqlite:///{quote(str(base))}/{relative}"
