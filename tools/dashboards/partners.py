"""Who uses how much of what? Quotas, tokens, refusals and ends of agreements, partner by partner."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard

from tools.dashboards import agreements
from tools.dashboards.frame import Row, framed
from tools.dashboards.limits import limit
from tools.dashboards.panels import RED, YELLOW, Column, Panel, Query, above_zero, columns, graph

PARTNER = 'job=~"$job", partner=~"$partner"'
BY_MODEL = f'{PARTNER}, model=~"$model"'
MODEL = '{job=~"$job", model=~"$model"}'
EACH = "[$__rate_interval]"
FULL = ((0.8, YELLOW), (1.0, RED))


def build() -> dashboard.Dashboard:
    """The dashboard."""
    return framed(
        "sluicegate-partners",
        "Sluicegate: partners",
        "What each partner uses, what it is refused, when its agreement ends, and what it reports.",
        ["job", "partner", "model"],
        [
            Row("Overview", [_overview()]),
            Row("Use", _use()),
            Row("Quotas", _quotas()),
            Row("Refusals and ends", _ends()),
            Row("Findings", [_findings()]),
        ],
    )


def _overview() -> Panel:
    return columns(
        "Partners",
        "Each partner now and over the last 24 hours. public: callers without an agreement; internal: the operator's;"
        " other: callers of whom nothing is believed.",
        [("partner", "Partner")],
        [
            Column("Streams now", f"sum by (partner) (sluicegate_streams_active{{{PARTNER}}})", "short"),
            Column(
                "Requests in 24 h",
                f"sum by (partner) (increase(sluicegate_requests_total{{{PARTNER}}}[24h]))",
                "locale",
                decimals=0,
            ),
            Column(
                "Tokens in 24 h",
                f"sum by (partner) (increase(sluicegate_tokens_total{{{PARTNER}}}[24h]))",
                "locale",
                decimals=0,
            ),
            Column(
                "Denials in 24 h",
                f"sum by (partner) (increase(sluicegate_denials_total{{{PARTNER}}}[24h]))",
                "locale",
                decimals=0,
            ),
            Column(
                "Fullest quota",
                f"max by (partner) (sluicegate_quota_used_ratio{{{PARTNER}}})",
                "percentunit",
                FULL,
                decimals=0,
            ),
            agreements.left(PARTNER),
            Column(
                "Findings overdue",
                f"max by (partner) (sluicegate_findings_overdue{{{PARTNER}}})",
                "short",
                ((limit("FindingsOverdue") + 1, RED),),
                decimals=0,
            ),
        ],
        height=10,
        order_by=("Tokens in 24 h", True),
        alerts=(agreements.ALERT, "FindingsOverdue"),
    )


def _use() -> list[Panel]:
    def hour(when: str) -> str:
        return above_zero(f"sum by (partner) (job_partner:sluicegate_tokens{when}:increase1h{{{PARTNER}}})")

    return [
        graph(
            "Tokens in an hour",
            "Tokens read and generated in the hour before, beside the same hour a day and a week ago (dashed)."
            " VolumeSpike: above 100,000 and five times both.",
            "short",
            Query(hour(""), "{{partner}}"),
            Query(hour("_yesterday"), "{{partner}} yesterday", is_dashed=True),
            Query(hour("_last_week"), "{{partner}} a week ago", is_dashed=True),
            line=limit("VolumeSpike"),
            alerts=("VolumeSpike",),
        ),
        graph(
            "Tokens per second by model",
            "Tokens read (input) and generated (output), as calls end.",
            "short",
            Query(
                above_zero(f"sum by (model, direction) (rate(sluicegate_tokens_total{{{BY_MODEL}}}{EACH}))"),
                "{{model}} {{direction}}",
            ),
            is_stacked=True,
        ),
        graph(
            "Requests",
            "Allowed requests, a second.",
            "reqps",
            Query(
                above_zero(f"sum by (partner, action) (rate(sluicegate_requests_total{{{BY_MODEL}}}{EACH}))"),
                "{{partner}} {{action}}",
            ),
            is_stacked=True,
        ),
        graph(
            "Streams by partner",
            "Generations under way, waiting ones included.",
            "short",
            Query(above_zero(f"sum by (partner) (sluicegate_streams_active{{{BY_MODEL}}})"), "{{partner}}"),
            is_stacked=True,
        ),
    ]


def _quotas() -> list[Panel]:
    return [
        graph(
            "Quotas used",
            "Used share of each limit, of a partner's fullest agreement. Callers of the public and insiders have quotas"
            " each of their own, and are not here.",
            "percentunit",
            Query(
                above_zero(f"max by (partner, limit) (sluicegate_quota_used_ratio{{{PARTNER}}})"),
                "{{partner}} {{limit}}",
            ),
            width=14,
            line=0.8,
        ),
        graph(
            "Refused by a quota",
            "Calls in each interval that a quota had no room for.",
            "short",
            Query(
                above_zero(
                    f"round(sum by (partner, limit) (increase(sluicegate_quota_refusals_total{{{PARTNER}}}{EACH})))"
                ),
                "{{partner}} {{limit}}",
            ),
            width=10,
            is_stacked=True,
        ),
    ]


def _ends() -> list[Panel]:
    return [
        graph(
            "Denials",
            "Calls in each interval that were denied, by what was lacking.",
            "short",
            Query(
                above_zero(f"round(sum by (partner, class) (increase(sluicegate_denials_total{{{PARTNER}}}{EACH})))"),
                "{{partner}} {{class}}",
            ),
            is_stacked=True,
            alerts=("ScopeProbing",),
        ),
        graph(
            "Early ends of generations",
            "Generations of all partners that ended before their own limits did, in each interval.",
            "short",
            Query(
                above_zero(
                    f"round(sum by (model, cause) (increase(sluicegate_streams_terminated_total{MODEL}{EACH})))"
                ),
                "{{model}} {{cause}}",
            ),
            is_stacked=True,
        ),
    ]


def _findings() -> Panel:
    return graph(
        "Findings filed in a day",
        "Findings that were filed in the 24 hours before, by reporter and by what they are about.",
        "short",
        Query(
            above_zero(f"round(sum by (partner, kind) (increase(sluicegate_findings_total{{{PARTNER}}}[24h])))"),
            "{{partner}} {{kind}}",
        ),
        width=24,
        is_stacked=True,
    )
