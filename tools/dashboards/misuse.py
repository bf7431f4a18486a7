"""Is it being misused? What alerts say, who tries doors, and what the watch on prompts and outputs sees."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.models import dashboard

from tools.dashboards.frame import Row, framed
from tools.dashboards.limits import limit
from tools.dashboards.panels import RED, YELLOW, Column, Panel, Query, above_zero, columns, graph, timeline

PARTNER = 'job=~"$job", partner=~"$partner"'
MODEL = '{job=~"$job", model=~"$model"}'
FORGED = "TOKEN_SIGNATURE_INVALID|TOKEN_KEY_UNKNOWN|TOKEN_ALG_FORBIDDEN|TOKEN_HEADER_FORBIDDEN|TOKEN_TYPE_INVALID"
OURS = 'area=~"misuse|control|service", job=~"$job|"'
ALERTS = f'ALERTS{{{OURS}, alertstate="firing"}}'
SINCE = f"ALERTS_FOR_STATE{{{OURS}}} and ignoring (alertstate) {ALERTS}"
DENIED = 'sluicegate_decisions_total{job=~"$job", decision="denied"'


def build() -> dashboard.Dashboard:
    """The dashboard."""
    return framed(
        "sluicegate-misuse",
        "Sluicegate: misuse",
        "Firing alerts, doors that are tried, and what the watch on prompts and outputs sees.",
        ["job", "partner", "model"],
        [
            Row("Alerts", _alerts()),
            Row("Doors that are tried", _doors()),
            Row("Repetition", _repetition()),
            Row("Tokens and hours", _tokens()),
            Row("Content of outputs", _content()),
            Row("Is the watch complete?", _watch()),
        ],
    )


def _alerts() -> list[Panel]:
    return [
        columns(
            "Alerts that fire",
            "Every alert of Sluicegate that fires now, and how long its condition has held. Names lead to runbooks.",
            [
                ("alertname", "Alert"),
                ("severity", "Severity"),
                ("partner", "Partner"),
                ("model", "Model"),
                ("job", "Deployment"),
            ],
            [
                Column(
                    "For",
                    f"time() - min by (alertname, severity, partner, model, job) ({SINCE})",
                    "dtdurations",
                    decimals=0,
                )
            ],
            width=12,
            height=10,
            order_by=("Severity", False),
            paint={"Severity": {"page": RED, "ticket": YELLOW}},
            pages="Alert",
        ),
        timeline(
            "Alerts over time",
            "When which alert fired, by partner or model.",
            Query(f"count by (alertname, partner, model) ({ALERTS}) > bool 0", "{{alertname}} {{partner}}{{model}}"),
            {"1": ("firing", RED)},
            height=10,
        ),
    ]


def _doors() -> list[Panel]:
    return [
        _counted(
            "Closed doors tried",
            "sluicegate_denials_total",
            ["partner"],
            which=', class=~"scope|stage"',
            window="10m",
            description="Calls in ten minutes for a scope that the token lacks, or a model that is not open.",
            alert="ScopeProbing",
        ),
        _counted(
            "Denials by class",
            "sluicegate_denials_total",
            ["partner", "class"],
            window="10m",
            description="Calls denied in ten minutes, by what was lacking.",
        ),
        graph(
            "Forged tokens by reason",
            "Calls in ten minutes with a token that no trusted issuer made. Nothing in it says whose it is.",
            "short",
            Query(
                above_zero(f'round(sum by (reason) (increase({DENIED}, reason=~"{FORGED}"}}[10m])))'),
                "{{reason}}",
            ),
            width=8,
            is_stacked=True,
            line=limit("ForgedTokens"),
            alerts=("ForgedTokens",),
        ),
        graph(
            "Withdrawn, still tried",
            "Calls in a quarter of an hour with what was withdrawn. One is enough for RevokedTokenInUse.",
            "short",
            Query(
                f'round(sum by (reason) (increase({DENIED}, reason=~"TOKEN_WITHDRAWN|CALLER_WITHDRAWN"}}[15m])))',
                "{{reason}}",
            ),
            width=8,
            alerts=("RevokedTokenInUse",),
        ),
        graph(
            "Unknown names",
            "Names in an hour that the policy does not have, by their kind.",
            "short",
            Query('round(sum by (label) (increase(sluicegate_label_overflow_total{job=~"$job"}[1h])))', "{{label}}"),
            width=8,
            line=limit("LabelOverflow"),
            alerts=("LabelOverflow",),
        ),
    ]


def _repetition() -> list[Panel]:
    return [
        _merged(
            "Near-duplicates among prompts",
            "sluicegate_prompt_duplicate_ratio",
            "percentunit",
            "Share of the last hour's prompts that are nearly an earlier one.",
            alert="MassDuplicates",
            top=1,
        ),
        _merged(
            "Near-duplicates among outputs",
            "sluicegate_output_duplicate_ratio",
            "percentunit",
            "Share of the last hour's outputs that are nearly an earlier one.",
            alert="MassDuplicates",
            top=1,
        ),
        _merged(
            "Campaigns",
            "sluicegate_template_campaigns",
            "short",
            "Clusters of more than 50 prompts from one template in the last hour. One is enough for TemplateCampaign.",
            alert="TemplateCampaign",
        ),
        _merged(
            "Different prompts in a day",
            "sluicegate_prompts_distinct_estimate",
            "short",
            "How many different prompts each partner sent in 24 hours, estimated.",
        ),
        graph(
            "Prompts and duplicates",
            "Prompts looked at in each interval, and near-duplicates among them (dashed).",
            "short",
            Query(
                _each("sluicegate_prompts_seen_total"),
                "{{partner}}",
            ),
            Query(
                _each("sluicegate_prompt_duplicates_total"),
                "{{partner}} alike",
                is_dashed=True,
            ),
        ),
        graph(
            "Outputs and duplicates",
            "Outputs looked at in each interval, and near-duplicates among them (dashed).",
            "short",
            Query(
                _each("sluicegate_outputs_seen_total"),
                "{{partner}}",
            ),
            Query(
                _each("sluicegate_output_duplicates_total"),
                "{{partner}} alike",
                is_dashed=True,
            ),
        ),
    ]


def _tokens() -> list[Panel]:
    return [
        _merged(
            "Networks of one token",
            "sluicegate_networks_per_token_max",
            "short",
            "Most networks that one token of the partner came from in 24 hours.",
            alert="TokenSharing",
        ),
        _counted(
            "Outside agreed hours",
            "sluicegate_offhours_requests_total",
            ["partner"],
            window="1h",
            description="Requests in an hour outside the hours of the agreement.",
            alert="OffHoursUse",
        ),
    ]


def _content() -> list[Panel]:
    return [
        _counted(
            "Personal data in outputs",
            "sluicegate_pii_found_total",
            ["partner"],
            window="1h",
            description="Finds in an hour. PiiBurst: above the line, and one for every five outputs.",
            alert="PiiBurst",
        ),
        _counted(
            "Personal data by type",
            "sluicegate_pii_found_total",
            ["partner", "type"],
            window="1h",
            description="The same finds by what they are.",
        ),
        _counted(
            "Personal data taken out",
            "sluicegate_pii_redactions_total",
            ["partner", "type"],
            window="1h",
            description="Redactions in an hour, where the agreement asks for them; the finds beside it count both.",
        ),
        _counted(
            "Flagged words by category",
            "sluicegate_flagged_lexicon_total",
            ["partner", "category"],
            window="1h",
            description="Finds in an hour. FlaggedContent: above the line, and one in ten outputs.",
            alert="FlaggedContent",
        ),
        graph(
            "Outputs that look memorised",
            "In an hour, by model. MemorisedOutput: above the line, and one in twenty generations.",
            "short",
            Query(
                above_zero(f"round(sum by (model) (increase(sluicegate_memorisation_suspects_total{MODEL}[1h])))"),
                "{{model}}",
            ),
            line=limit("MemorisedOutput"),
            alerts=("MemorisedOutput",),
        ),
        graph(
            "Texts checked for watermarks",
            "Keys looked for in an hour, by what was found. A text is looked at under each key of its models.",
            "short",
            Query(
                above_zero(f"round(sum by (model, verdict) (increase(sluicegate_watermark_checks_total{MODEL}[1h])))"),
                "{{model}} {{verdict}}",
            ),
            is_stacked=True,
        ),
    ]


def _watch() -> list[Panel]:
    dropped = "sluicegate_signals_dropped_total"
    seen = ("sluicegate_prompts_seen_total", "sluicegate_outputs_seen_total")
    return [
        graph(
            "Texts not looked at",
            "Share of prompts and outputs in ten minutes that were dropped, since the watcher was behind.",
            "percentunit",
            Query(
                f"{_in_ten_minutes(dropped)} / ({' + '.join(map(_in_ten_minutes, (dropped, *seen)))})",
                "dropped",
            ),
            line=limit("SignalsBehind"),
            alerts=("SignalsBehind",),
        ),
        graph(
            "Age of the exchange",
            "Since a replica last exchanged what it saw. Above 5 min the figures by partner are partial.",
            "s",
            Query('max by (instance) (sluicegate_signals_exchange_age_seconds{job=~"$job"})', "{{instance}}"),
            line=300,
            alerts=("SignalsBehind",),
        ),
    ]


def _in_ten_minutes(counter: str) -> str:
    return f'sum(increase({counter}{{job=~"$job"}}[10m]))'


def _merged(
    title: str, gauge: str, unit: str, description: str, *, alert: str | None = None, top: float | None = None
) -> Panel:
    """A gauge over all replicas, of which each exports the same figure."""
    return graph(
        title,
        description,
        unit,
        Query(above_zero(f"max by (partner) ({gauge}{{{PARTNER}}})"), "{{partner}}"),
        line=None if alert is None else limit(alert) or None,
        top=top,
        alerts=() if alert is None else (alert,),
    )


def _each(counter: str) -> str:
    """How much a counter grows in each interval, by partner."""
    return above_zero(f"round(sum by (partner) (increase({counter}{{{PARTNER}}}[$__rate_interval])))")


def _counted(
    title: str,
    counter: str,
    labels: Sequence[str],
    *,
    which: str = "",
    window: str,
    description: str,
    alert: str | None = None,
) -> Panel:
    """How much a counter has grown in the window of its alert."""
    return graph(
        title,
        description,
        "short",
        Query(
            above_zero(f"round(sum by ({', '.join(labels)}) (increase({counter}{{{PARTNER}{which}}}[{window}])))"),
            " ".join(f"{{{{{label}}}}}" for label in labels),
        ),
        line=None if alert is None else limit(alert),
        alerts=() if alert is None else (alert,),
    )
