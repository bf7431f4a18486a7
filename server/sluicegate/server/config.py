"""The server's settings: one frozen tree, read once from a YAML file. The only module that reads the environment.

Every problem is reported at once, with the path of the setting and what is allowed. docs/configuration.md
describes each setting; a test holds the two together.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from yaml.constructor import ConstructorError

from sluicegate.server.errors import SettingsError

SETTINGS_FILE_VARIABLE = "SLUICEGATE_CONFIG"
MAX_SETTINGS_BYTES = 1 << 20


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _path(value: object) -> object:
    return Path(value).expanduser() if isinstance(value, str) else value


OFF = "literal['off']"
SECTIONS_OR_OFF = frozenset({"Signatures", "Audit"})
"""How pydantic names the alternatives of such a setting in the place of a problem."""


def _with_off(data: Any, setting: str) -> Any:
    """The same data, with the false that YAML reads a bare `off` as written `off`."""
    if isinstance(data, dict) and data.get(setting) is False:
        return {**data, setting: "off"}
    return data


FilePath = Annotated[Path, BeforeValidator(_path)]
Seconds = Annotated[float, Field(gt=0, le=86_400), BeforeValidator(lambda v: float(v) if type(v) is int else v)]
Share = Annotated[float, Field(gt=0, le=1), BeforeValidator(lambda v: float(v) if type(v) is int else v)]
ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.%\w]+\]|[\w.-]+):(\d{1,5})")


def _address(value: object) -> object:
    if isinstance(value, str):
        match = ADDRESS.fullmatch(value)
        if not (match and int(match[1]) <= 65_535) and not re.fullmatch(r"unix:/.{1,100}", value):
            raise ValueError("expected HOST:PORT, [IPv6]:PORT or unix:/PATH")
    return value


Address = Annotated[str, BeforeValidator(_address)]


Network = Annotated[
    IPv4Network | IPv6Network, BeforeValidator(lambda value: ip_network(value) if isinstance(value, str) else value)
]


class Tls(_Settings):
    """Transport security of the callers' listener. With `client_ca`, every client must show a certificate of it."""

    certificate: FilePath
    key: FilePath
    client_ca: FilePath | None = None


class TrustedProxy(_Settings):
    """A proxy whose word on its callers counts, known by one thing about the TLS certificate that it shows.

    `networks`: where proxies like it stand, in case one is behind another.
    """

    name: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    thumbprint: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$")] | None = None
    networks: Annotated[tuple[Network, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.name is None) == (self.thumbprint is None):
            raise ValueError("give exactly one of name and thumbprint")
        return self


class Keys(_Settings):
    """Where an issuer's public keys are: a JWKS file, a JWKS URL, or what its own discovery document says."""

    file: FilePath | None = None
    url: str | None = None
    discovery: bool = False

    @model_validator(mode="after")
    def _one(self) -> Self:
        if [self.file is not None, self.url is not None, self.discovery].count(True) != 1:
            raise ValueError("give exactly one of file, url and discovery: true")
        return self


class Algorithm(StrEnum):
    """Signature algorithms that a token may use."""

    ES256 = "ES256"
    EDDSA = "EdDSA"
    RS256 = "RS256"
    PS256 = "PS256"


class Issuer(_Settings):
    """One trusted token issuer."""

    issuer: Annotated[str, Field(min_length=1, max_length=255)]
    audience: Annotated[str, Field(min_length=1, max_length=255)]
    algorithms: Annotated[tuple[Annotated[Algorithm, Field(strict=False)], ...], Field(min_length=1, strict=False)] = (
        Algorithm.ES256,
    )
    keys: Keys


class Tokens(_Settings):
    """Which access tokens are believed."""

    issuers: Annotated[tuple[Issuer, ...], Field(min_length=1, strict=False)]
    max_lifetime_seconds: Annotated[int, Field(ge=60, le=86_400)] = 3_600

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [issuer.issuer for issuer in self.issuers]
        if len(set(names)) != len(names):
            raise ValueError("an issuer is listed twice")
        return self


class Signer(_Settings):
    """One person who may sign policy changes."""

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
    public_key: Annotated[str, Field(min_length=40, max_length=64)]


class Signatures(_Settings):
    """The trust root of policy signatures. It stands here, outside the policy that it protects."""

    deployment: Annotated[str, Field(min_length=1, max_length=128)]
    threshold: Annotated[int, Field(ge=2, le=10)] = 2
    signers: Annotated[tuple[Signer, ...], Field(min_length=1, strict=False)]


class Policy(_Settings):
    """Where the policy is and who may change it."""

    directory: FilePath
    signatures: Signatures | Literal["off"]
    reload_seconds: Seconds = 1.0

    @model_validator(mode="before")
    @classmethod
    def _yaml_off(cls, data: Any) -> Any:
        return _with_off(data, "signatures")


class Model(_Settings):
    """How one model of the policy is hosted."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d{1,2})?)$")] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    slots: Annotated[int, Field(ge=1, le=4_096)] = 16
    step_tokens: Annotated[int, Field(ge=16, le=65_536)] = 256


class State(_Settings):
    """Where quotas and withdrawals are kept, for this replica or for all."""

    url: Annotated[str, Field(min_length=1, max_length=1024)] = "sqlite:///sluicegate-state.db"
    lease_seconds: Annotated[float, Field(ge=3, le=600)] = 30.0


class Audit(_Settings):
    """Where this replica's audit log is, and what it is kept with."""

    directory: FilePath
    key: FilePath
    secret: FilePath
    replica: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,128}$")] = Field(default_factory=socket.gethostname)
    checkpoint_seconds: Annotated[float, Field(ge=1, le=3_600)] = 60.0
    file_bytes: Annotated[int, Field(ge=1 << 16, le=1 << 30)] = 16 << 20


class Limits(_Settings):
    """What one caller, or all together, may ask of this process."""

    queued_requests: Annotated[int, Field(ge=1, le=100_000)] = 256
    queued_share: Share = 0.25
    call_seconds: Seconds = 600.0
    stalled_reader_seconds: Seconds = 20.0
    streams_per_connection: Annotated[int, Field(ge=1, le=100_000)] = 1_000
    message_bytes: Annotated[int, Field(ge=65_536, le=16 << 20)] = 1 << 20
    metadata_bytes: Annotated[int, Field(ge=8_192, le=1 << 20)] = 16 << 10
    peer_calls_per_minute: Annotated[int, Field(ge=1, le=10_000_000)] = 6_000
    peer_ipv4_prefix: Annotated[int, Field(ge=8, le=32)] = 32
    peer_ipv6_prefix: Annotated[int, Field(ge=16, le=128)] = 64
    denials_per_minute: Annotated[int, Field(ge=1, le=10_000_000)] = 120


class Drain(_Settings):
    """How the server stops."""

    announce_seconds: Annotated[float, Field(ge=0, le=300)] = 2.0
    grace_seconds: Annotated[float, Field(ge=0, le=3_600)] = 30.0


class Metrics(_Settings):
    """The Prometheus endpoint."""

    listen: Address | None = "127.0.0.1:9464"


class Log(_Settings):
    """The log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"


class Engine(_Settings):
    """The engine processes."""

    threads: Annotated[int, Field(ge=1, le=1_024)] | None = None
    load_seconds: Seconds = 600.0


class Settings(_Settings):
    """Everything the server is told."""

    listen: Address = "127.0.0.1:50051"
    tls: Tls | None = None
    trusted_proxies: Annotated[tuple[TrustedProxy, ...], Field(strict=False)] = ()
    policy: Policy
    tokens: Tokens
    models: Annotated[dict[str, Model], Field(min_length=1)]
    engine: Engine = Engine()
    state: State = State()
    audit: Audit | Literal["off"]
    limits: Limits = Limits()
    drain: Drain = Drain()
    metrics: Metrics = Metrics()
    log: Log = Log()
    reflection: bool = True

    @model_validator(mode="before")
    @classmethod
    def _yaml_off(cls, data: Any) -> Any:
        return _with_off(data, "audit")

    @model_validator(mode="after")
    def _proxies_show_certificates(self) -> Self:
        if self.trusted_proxies and (self.tls is None or self.tls.client_ca is None):
            raise ValueError("trusted_proxies: needs tls.client_ca, since proxies are known by their certificates")
        return self


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
            return value.model_copy(update={"url": _anchored_url(value.url, base)})
        if isinstance(value, _Settings):
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
