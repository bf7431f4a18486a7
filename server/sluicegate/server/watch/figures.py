"""The figures that are shown, made of all servers' pages: rates and sums, and what replicas share by its maximum."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sluicegate.server.observe.denials import DenialClass
from sluicegate.server.observe.labels import OTHER
from sluicegate.server.observe.reading import Samples
from sluicegate.server.watch.quantiles import quantile
from sluicegate.server.watch.servers import Interval, Server

AUDIENCES = ("public", "partner", "internal")
"""From the widest: a model that is open to one is open to those after it."""
PARTNER, MODEL = "partner", "model"
_TOKENS, _FIRST_TOKEN = "sluicegate_tokens_total", "gen_ai_server_time_to_first_token_seconds_bucket"


@dataclass(frozen=True, slots=True)
class ServerFigures:
    """One server. `problem`: why nothing is known of it now."""

    name: str
    problem: str | None
    revision: str | None
    stage: str | None


@dataclass(frozen=True, slots=True)
class Control:
    """Whether control is in order: the worst of all servers. None where none tells. Ages in seconds."""

    audit_enabled: bool | None
    audit_checkpoint_age: float | None
    withdrawals_age: float | None
    keys_age: float | None
    signals_enabled: bool | None
    signals_exchange_age: float | None
    withdrawals_in_force: float | None


@dataclass(frozen=True, slots=True)
class PartnerFigures:
    """One partner. Rates are None until a server was asked twice."""

    partner: str
    input_tokens_per_second: float | None
    output_tokens_per_second: float | None
    requests_per_second: float | None
    streams: float
    denials_per_minute: Mapping[str, float]
    """By class; empty without rates."""
    quota_used_ratio: float | None
    quota_limit: str | None
    """The limit that is used most."""
    prompts_seen: float
    """Since the servers started, as the next: pages have no count of the last hour, which the ratios are of."""
    outputs_seen: float
    prompt_duplicate_ratio: float | None
    output_duplicate_ratio: float | None
    template_campaigns: float | None
    prompts_distinct: float | None
    networks_per_token: float | None
    pii_found: float
    """Since watching began, as the next two."""
    flagged_lexicon: float
    offhours_requests: float

    @property
    def activity(self) -> int:
        """What the most active is shown first by, so coarse that rows do not change places at every look."""
        rates = (self.input_tokens_per_second, self.output_tokens_per_second, self.requests_per_second)
        sum_ = sum(rate or 0.0 for rate in rates) + sum(self.denials_per_minute.values()) + self.streams
        return math.ceil(math.log10(1 + max(0.0, sum_)))


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """One model. Times in seconds, None where no call had its first token meanwhile."""

    model: str
    ready: int
    """On so many of the servers that answer."""
    open_to: str | None
    """The widest audience; None: to nobody."""
    queue: float
    running: float
    slots_used_ratio: float | None
    """Of the fullest replica."""
    output_tokens_per_second: float | None
    first_token_p50: float | None
    first_token_p95: float | None
    memorisation_suspects: float
    """Since watching began."""


@dataclass(frozen=True, slots=True)
class View:
    """All that is shown at one time."""

    servers: tuple[ServerFigures, ...]
    control: Control
    partners: tuple[PartnerFigures, ...]
    """The most active first."""
    models: tuple[ModelFigures, ...]

    @property
    def answering(self) -> int:
        return sum(server.problem is None for server in self.servers)

    @property
    def policies(self) -> tuple[tuple[str, str], ...]:
        """Each revision and stage that a server has in force; more than one is skew."""
        return tuple(sorted({(each.revision or "", each.stage or "") for each in self.servers if not each.problem}))


def view_of(servers: Sequence[Server]) -> View:
    """The figures of now."""
    pages = [server.samples for server in servers if server.samples is not None]
    sums = _Sums(servers, pages)
    return View(
        servers=tuple(map(_server, servers)),
        control=_control(pages),
        partners=tuple(sorted(_partners(sums), key=lambda each: (-each.activity, each.partner))),
        models=tuple(_models(sums)),
    )


class _Sums:
    """Sums over servers, by label."""

    def __init__(self, servers: Sequence[Server], pages: Sequence[Samples]) -> None:
        self.pages = pages
        self.intervals = [each.interval for each in servers if each.interval is not None and each.interval.seconds > 0]
        self._servers = servers

    def rates(self, name: str, *labels: str) -> Mapping[tuple[str, ...], float]:
        """Per second; empty before there are any."""
        found: defaultdict[tuple[str, ...], float] = defaultdict(float)
        for interval in self.intervals:
            for key, grown in _increases(interval, name, labels):
                found[key] += grown / interval.seconds
        return found

    def grown(self, name: str, *labels: str) -> Mapping[tuple[str, ...], float]:
        """Increases over the intervals of all servers."""
        found: defaultdict[tuple[str, ...], float] = defaultdict(float)
        for interval in self.intervals:
            for key, grown in _increases(interval, name, labels):
                found[key] += grown
        return found

    def counted(self, name: str, label: str) -> Mapping[str, float]:
        """Increases since watching began."""
        found: defaultdict[str, float] = defaultdict(float)
        for server in self._servers:
            for (counter, series), grown in server.counted.items():
                if counter == name:
                    found[dict(series).get(label, "")] += grown
        return found

    def gauges(self, name: str, *labels: str) -> Mapping[tuple[str, ...], float]:
        found: defaultdict[tuple[str, ...], float] = defaultdict(float)
        for page in self.pages:
            for key, value in page.by(name, *labels):
                found[key] += value if math.isfinite(value) else 0.0
        return found

    def highest(self, name: str, *labels: str) -> Mapping[tuple[str, ...], float]:
        """What replicas share, or the worst of them."""
        found: dict[tuple[str, ...], float] = {}
        for page in self.pages:
            for key, value in page.by(name, *labels):
                if not math.isnan(value):
                    found[key] = max(value, found.get(key, -math.inf))
        return found


def _increases(interval: Interval, name: str, labels: Sequence[str]) -> Iterator[tuple[tuple[str, ...], float]]:
    for series, grown in interval.increases(name):
        members = dict(series)
        yield tuple(members.get(label, "") for label in labels), grown


def _server(server: Server) -> ServerFigures:
    page = server.samples
    info = {} if page is None else dict(next(iter(page.of("sluicegate_policy_info")), frozenset()))
    return ServerFigures(server.name, server.problem, info.get("revision"), info.get("stage"))


def _control(pages: Sequence[Samples]) -> Control:
    def worst(name: str) -> float | None:
        values = [value for page in pages if (value := page.one(name)) is not None and not math.isnan(value)]
        return max(values, default=None)

    def everywhere(name: str) -> bool | None:
        values = [value for page in pages if (value := page.one(name)) is not None]
        return all(value == 1 for value in values) if values else None

    in_force = [
        sum(value for value in page.of("sluicegate_withdrawals_in_force").values() if math.isfinite(value))
        for page in pages
    ]
    return Control(
        audit_enabled=everywhere("sluicegate_audit_enabled"),
        audit_checkpoint_age=worst("sluicegate_audit_checkpoint_age_seconds"),
        withdrawals_age=worst("sluicegate_withdrawals_age_seconds"),
        keys_age=worst("sluicegate_jwks_age_seconds"),
        signals_enabled=everywhere("sluicegate_signals_enabled"),
        signals_exchange_age=worst("sluicegate_signals_exchange_age_seconds"),
        withdrawals_in_force=max(in_force, default=None),
    )


def _partners(sums: _Sums) -> Iterator[PartnerFigures]:
    tokens = sums.rates(_TOKENS, PARTNER, "direction")
    requests = sums.rates("sluicegate_requests_total", PARTNER)
    denials = sums.rates("sluicegate_denials_total", PARTNER, "class")
    streams = sums.gauges("sluicegate_streams_active", PARTNER)
    quotas = sums.highest("sluicegate_quota_used_ratio", PARTNER, "limit")
    shared = {
        name: sums.highest(f"sluicegate_{name}", PARTNER)
        for name in (
            "prompt_duplicate_ratio",
            "output_duplicate_ratio",
            "template_campaigns",
            "prompts_distinct_estimate",
            "networks_per_token_max",
        )
    }
    pii = sums.counted("sluicegate_pii_found_total", PARTNER)
    flagged = sums.counted("sluicegate_flagged_lexicon_total", PARTNER)
    offhours = sums.counted("sluicegate_offhours_requests_total", PARTNER)
    prompts = sums.gauges("sluicegate_prompts_seen_total", PARTNER)
    outputs = sums.gauges("sluicegate_outputs_seen_total", PARTNER)
    has_rates = bool(sums.intervals)
    most_used: dict[str, tuple[float, str]] = {}
    for (partner, limit), ratio in quotas.items():
        most_used[partner] = max((ratio, limit), most_used.get(partner, (-math.inf, "")))
    for (partner,) in streams:
        used = most_used.get(partner)
        yield PartnerFigures(
            partner=partner,
            input_tokens_per_second=tokens.get((partner, "input"), 0.0) if has_rates else None,
            output_tokens_per_second=tokens.get((partner, "output"), 0.0) if has_rates else None,
            requests_per_second=requests.get((partner,), 0.0) if has_rates else None,
            streams=streams[partner,],
            denials_per_minute={each.value: 60 * denials.get((partner, each.value), 0.0) for each in DenialClass}
            if has_rates
            else {},
            quota_used_ratio=None if used is None else used[0],
            quota_limit=None if used is None else used[1],
            prompts_seen=prompts.get((partner,), 0.0),
            outputs_seen=outputs.get((partner,), 0.0),
            prompt_duplicate_ratio=shared["prompt_duplicate_ratio"].get((partner,)),
            output_duplicate_ratio=shared["output_duplicate_ratio"].get((partner,)),
            template_campaigns=shared["template_campaigns"].get((partner,)),
            prompts_distinct=shared["prompts_distinct_estimate"].get((partner,)),
            networks_per_token=shared["networks_per_token_max"].get((partner,)),
            pii_found=pii.get(partner, 0.0),
            flagged_lexicon=flagged.get(partner, 0.0),
            offhours_requests=offhours.get(partner, 0.0),
        )


def _models(sums: _Sums) -> Iterator[ModelFigures]:
    ready = sums.gauges("sluicegate_model_ready", MODEL)
    opened = sums.highest("sluicegate_model_open", MODEL, "audience")
    queue = sums.gauges("sluicegate_engine_queue_length", MODEL)
    running = sums.gauges("sluicegate_engine_sequences_running", MODEL)
    slots = sums.highest("sluicegate_engine_slots_used_ratio", MODEL)
    tokens = sums.rates(_TOKENS, MODEL, "direction")
    buckets: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for (model, bound), grown in sums.grown(_FIRST_TOKEN, "gen_ai_request_model", "le").items():
        buckets[model][bound] = grown
    suspects = sums.counted("sluicegate_memorisation_suspects_total", MODEL)
    for (model,), count in sorted(ready.items()):
        if model == OTHER:  # what callers made up: nothing is served under it
            continue
        first_token = buckets.get(model, {})
        yield ModelFigures(
            model=model,
            ready=round(count),
            open_to=next((each for each in AUDIENCES if opened.get((model, each)) == 1), None),
            queue=queue.get((model,), 0.0),
            running=running.get((model,), 0.0),
            slots_used_ratio=slots.get((model,)),
            output_tokens_per_second=tokens.get((model, "output"), 0.0) if sums.intervals else None,
            first_token_p50=quantile(0.5, first_token),
            first_token_p95=quantile(0.95, first_token),
            memorisation_suspects=suspects.get(model, 0.0),
        )
