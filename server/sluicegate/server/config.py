"""The server's settings: one frozen tree, read once from a file (settings_file.py).

docs/configuration.md describes each setting; a test holds the two together.
"""

from __future__ import annotations

import re
import socket
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, model_validator


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _path(value: object) -> object:
    return Path(value).expanduser() if isinstance(value, str) else value


def _with_off(data: Any, setting: str) -> Any:
    """The same data, with the false that YAML reads a bare `off` as written `off`."""
    if isinstance(data, dict) and data.get(setting) is False:
        return {**data, setting: "off"}
    return data


FilePath = Annotated[Path, BeforeValidator(_path)]
Seconds = Annotated[float, Field(gt=0, le=86_400), BeforeValidator(lambda v: float(v) if type(v) is int else v)]
Share = Annotated[float, Field(gt=0, le=1), BeforeValidator(lambda v: float(v) if type(v) is int else v)]
Weight = Annotated[float, Field(ge=0.01, le=100), BeforeValidator(lambda v: float(v) if type(v) is int else v)]
LOOPBACK = re.compile(r"(?:127(?:\.\d{1,3}){3}|localhost|\[::1\]):")
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


class Tls(Section):
    """Transport security of the callers' listener. With `client_ca`, every client must show a certificate of it."""

    certificate: FilePath
    key: FilePath
    client_ca: FilePath | None = None


class TrustedProxy(Section):
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


class Keys(Section):
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


class Issuer(Section):
    """One trusted token issuer."""

    issuer: Annotated[str, Field(min_length=1, max_length=255)]
    audience: Annotated[str, Field(min_length=1, max_length=255)]
    algorithms: Annotated[tuple[Annotated[Algorithm, Field(strict=False)], ...], Field(min_length=1, strict=False)] = (
        Algorithm.ES256,
    )
    keys: Keys


class Tokens(Section):
    """Which access tokens are believed."""

    issuers: Annotated[tuple[Issuer, ...], Field(min_length=1, strict=False)]
    max_lifetime_seconds: Annotated[int, Field(ge=60, le=86_400)] = 3_600

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [issuer.issuer for issuer in self.issuers]
        if len(set(names)) != len(names):
            raise ValueError("an issuer is listed twice")
        return self


class Signer(Section):
    """One person who may sign policy changes."""

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
    public_key: Annotated[str, Field(min_length=40, max_length=64)]


class Signatures(Section):
    """The trust root of policy signatures. It stands here, outside the policy that it protects."""

    deployment: Annotated[str, Field(min_length=1, max_length=128)]
    threshold: Annotated[int, Field(ge=2, le=10)] = 2
    signers: Annotated[tuple[Signer, ...], Field(min_length=1, strict=False)]


class Policy(Section):
    """Where the policy is and who may change it."""

    directory: FilePath
    signatures: Signatures | Literal["off"]
    reload_seconds: Seconds = 1.0

    @model_validator(mode="before")
    @classmethod
    def _yaml_off(cls, data: Any) -> Any:
        return _with_off(data, "signatures")


def _slots(value: object) -> object:
    if value == "auto" or (type(value) is int and 1 <= value <= 4_096):
        return value
    raise ValueError("expected a number from 1 to 4,096, or auto")


Slots = Annotated[
    int | Literal["auto"],
    PlainValidator(_slots, json_schema_input_type=Annotated[int, Field(ge=1, le=4_096)] | Literal["auto"]),
]

PROMPT_LOOKUP = "prompt_lookup"
"""The draft that is no model; no model's id has an underscore."""


class Speculation(Section):
    """Who guesses a model's next tokens, a smaller model beside it or the text itself, and how many at most."""

    draft: Annotated[str, Field(min_length=1, max_length=63)]
    tokens: Annotated[int, Field(ge=1, le=16)] = 8


class Model(Section):
    """How one model of the policy is hosted."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d{1,2})?)$")] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    slots: Slots = 16
    step_tokens: Annotated[int, Field(ge=16, le=65_536)] = 256
    weight: Weight = 1.0
    prefix_reuse: bool = True
    speculation: Speculation | None = None

    @property
    def draft_model(self) -> str | None:
        """The id of the model that drafts for this one, if one does."""
        if self.speculation is None or self.speculation.draft == PROMPT_LOOKUP:
            return None
        return self.speculation.draft


class State(Section):
    """Where quotas and withdrawals are kept, for this replica or for all."""

    url: Annotated[str, Field(min_length=1, max_length=1024)] = "sqlite:///sluicegate-state.db"
    url_file: FilePath | None = None
    lease_seconds: Annotated[float, Field(ge=3, le=600)] = 30.0
    is_new: bool = False

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.url_file is not None and "url" in self.model_fields_set:
            raise ValueError("give url or url_file, not both")
        return self


class Audit(Section):
    """Where this replica's audit log is, and what it is kept with."""

    directory: FilePath
    key: FilePath
    secret: FilePath
    replica: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,128}$")] = Field(default_factory=socket.gethostname)
    checkpoint_seconds: Annotated[float, Field(ge=1, le=3_600)] = 60.0
    file_bytes: Annotated[int, Field(ge=1 << 16, le=1 << 30)] = 16 << 20


class Limits(Section):
    """What one caller, or all together, may ask of this process."""

    queued_requests: Annotated[int, Field(ge=1, le=100_000)] = 256
    queued_share: Share = 0.25
    call_seconds: Seconds = 600.0
    stalled_reader_seconds: Seconds = 20.0
    connection_age_seconds: Seconds = 1_800.0
    streams_per_connection: Annotated[int, Field(ge=1, le=100_000)] = 1_000
    message_bytes: Annotated[int, Field(ge=65_536, le=16 << 20)] = 1 << 20
    metadata_bytes: Annotated[int, Field(ge=8_192, le=1 << 20)] = 16 << 10
    peer_calls_per_minute: Annotated[int, Field(ge=1, le=10_000_000)] = 6_000
    peer_ipv4_prefix: Annotated[int, Field(ge=8, le=32)] = 32
    peer_ipv6_prefix: Annotated[int, Field(ge=16, le=128)] = 64
    denials_per_minute: Annotated[int, Field(ge=1, le=10_000_000)] = 120
    detections_per_minute: Annotated[int, Field(ge=1, le=10_000_000)] = 60


class Watermark(Section):
    """The keys that outputs are marked by, and when a text counts as marked."""

    keys: FilePath
    false_positive_rate: Annotated[float, Field(ge=1e-12, le=0.05)] = 0.001


class Findings(Section):
    """How many findings may be filed in any 24 hours."""

    reporter_per_day: Annotated[int, Field(ge=1, le=10_000)] = 20
    public_per_day: Annotated[int, Field(ge=1, le=100_000)] = 200


class Signals(Section):
    """What is looked for in prompts and outputs. Agreements that stop flagged text use `lexicon` in any case."""

    enabled: bool = True
    lexicon: FilePath | None = None
    recognisers: Literal["builtin", "presidio"] = "builtin"
    memorisation: bool = True


class Drain(Section):
    """How the server stops."""

    announce_seconds: Annotated[float, Field(ge=0, le=300)] = 2.0
    grace_seconds: Annotated[float, Field(ge=0, le=3_600)] = 30.0


class BasicAuth(Section):
    """Who may fetch metrics: one user, with the password in a file."""

    user: Annotated[str, Field(pattern=r"^[^:\x00-\x1f\x7f]{1,128}$")]
    password_file: FilePath


class Metrics(Section):
    """The Prometheus endpoint."""

    listen: Address | None = "127.0.0.1:9464"
    tls: Tls | None = None
    basic_auth: BasicAuth | None = None

    @model_validator(mode="after")
    def _password_is_not_sent_in_the_clear(self) -> Self:
        is_far = self.listen is not None and not LOOPBACK.match(self.listen)
        if self.basic_auth is not None and self.tls is None and is_far:
            raise ValueError("basic_auth: needs tls, else the password travels in the clear; or listen on loopback")
        return self


class Tracing(Section):
    """Traces of calls, which an OpenTelemetry collector takes by OTLP over gRPC."""

    endpoint: Annotated[str, Field(pattern=r"^https?://[^/?#@\s]{1,255}$")]
    ca: FilePath | None = None
    sampled_share: Annotated[float, Field(ge=0, le=1), BeforeValidator(lambda v: float(v) if type(v) is int else v)] = (
        0.1
    )
    follow_callers: bool = False

    @model_validator(mode="after")
    def _ca_is_for_https(self) -> Self:
        if self.ca is not None and not self.endpoint.startswith("https:"):
            raise ValueError("ca: is for an https endpoint; of another one nobody checks who it is")
        return self


class Health(Section):
    """A second listener, on which health answers without TLS and nothing else does."""

    listen: Address | None = None


class Operators(Section):
    """A listener of its own for EngineService. Without a `tls` of its own it has that of the callers' listener."""

    listen: Address | None = None
    tls: Tls | None = None


class Log(Section):
    """The log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"


class Engine(Section):
    """The engine processes."""

    threads: Annotated[int, Field(ge=1, le=1_024)] | None = None
    kernels: Literal["auto", "off"] = "auto"
    graphs: Literal["auto", "off"] = "auto"
    load_seconds: Seconds = 600.0


class Settings(Section):
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
    tracing: Tracing | None = None
    health: Health = Health()
    operators: Operators = Operators()
    findings: Findings = Findings()
    signals: Signals = Signals()
    watermark: Watermark | None = None
    log: Log = Log()
    reflection: bool = True

    @model_validator(mode="before")
    @classmethod
    def _yaml_off(cls, data: Any) -> Any:
        data = _with_off(_with_off(data, "audit"), "signals")
        if isinstance(data, dict) and data.get("signals") == "off":
            return {**data, "signals": {"enabled": False}}
        return data

    @property
    def load_order(self) -> tuple[str, ...]:
        """Ids of the models: those that draft for others come before them."""
        drafts = {name: [model.draft_model] if model.draft_model else [] for name, model in self.models.items()}
        return tuple(TopologicalSorter(drafts).static_order())

    @model_validator(mode="after")
    def _drafts_are_loaded_beside_their_models(self) -> Self:
        for name, model in self.models.items():
            if (draft := model.draft_model) is None:
                continue
            setting = f"models.{name}.speculation.draft"
            if draft not in self.models:
                raise ValueError(f"{setting}: {draft} is not among the models; host it, or write {PROMPT_LOOKUP}")
            if self.models[draft].device != model.device:
                raise ValueError(f"{setting}: {draft} is on another device; write the same device for both")
            # Slots are counted when all models with a number have taken theirs, and a draft model is loaded first.
            if self.models[draft].slots == "auto" and model.slots != "auto":
                raise ValueError(f"{setting}: {draft} has slots: auto; write a number there, or auto for {name} too")
        try:
            _ = self.load_order
        except CycleError as error:
            circle = " for ".join(error.args[1])
            raise ValueError(f"models: {circle} is a circle of drafts; a smaller model drafts for a larger") from None
        return self

    @property
    def operators_tls(self) -> Tls | None:
        """The transport security of the operators' listener."""
        return self.operators.tls or self.tls

    @model_validator(mode="after")
    def _operators_are_not_overheard(self) -> Self:
        listen = self.operators.listen
        is_near = listen is None or listen.startswith("unix:") or LOOPBACK.match(listen) is not None
        if not is_near and self.operators_tls is None:
            raise ValueError("operators.listen: needs tls, of its own or the server's; or listen on loopback")
        return self

    @model_validator(mode="after")
    def _proxies_show_certificates(self) -> Self:
        if self.trusted_proxies and (self.tls is None or self.tls.client_ca is None):
            raise ValueError("trusted_proxies: needs tls.client_ca, since proxies are known by their certificates")
        return self
