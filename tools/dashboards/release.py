"""Is the release as it was decided? Who may use what, under which policy, and is control itself in order."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard

from tools.dashboards import agreements
from tools.dashboards.frame import Row, framed
from tools.dashboards.limits import limit
from tools.dashboards.panels import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    YELLOW,
    Column,
    Panel,
    Query,
    above_zero,
    columns,
    graph,
    matrix,
    number,
    timeline,
)

OPEN = 'max by (model, audience) (sluicegate_model_open{job=~"$job", model=~"$model"})'
ASKED = 'job=~"$job", model=~"$model|other"'
DENIED = f'sluicegate_decisions_total{{{ASKED}, decision="denied"}}'


def build() -> dashboard.Dashboard:
    """The dashboard."""
    return framed(
        "sluicegate-release",
        "Sluicegate: release",
        "Who may use what, under which policy, and whether control is in order.",
        ["job", "model"],
        [
            Row("What is open", _open()),
            Row("What was measured", [_bias()]),
            Row("The policy", _policy()),
            Row("Decisions", _decisions()),
            Row("Control", _control()),
        ],
    )


def _open() -> list[Panel]:
    return [
        matrix(
            "Open models",
            "Which model the stage in force opens to which audience, withdrawals counted.",
            Query(OPEN),
            row="model",
            column="audience",
            words={"0": ("closed", GREY), "1": ("open", BLUE)},
            width=10,
            alerts=("UnreleasedModelServed",),
        ),
        timeline(
            "Open models over time",
            "The widest audience that each model is open to.",
            Query(f"sum by (model) ({OPEN})", "{{model}}"),
            {"0": ("closed", GREY), "1": ("internal", BLUE), "2": ("partner", YELLOW), "3": ("public", GREEN)},
            width=14,
        ),
        matrix(
            "Gates",
            "Whether models still pass the gates that the stage in force rests on, by what is known now.",
            Query('min by (gate, model) (sluicegate_gate_passed{job=~"$job", model=~"$model"})'),
            row="gate",
            column="model",
            words={"0": ("failed", RED), "1": ("passed", GREEN)},
            width=24,
            alerts=("GateFailed",),
        ),
        number(
            "Stage in force",
            "Its id in the release plan. Several: replicas disagree.",
            "none",
            Query('count by (stage) (sluicegate_policy_info{job=~"$job"})', "{{stage}}"),
            shows_name=True,
            width=4,
        ),
        number(
            "Policy on file",
            "Whether every replica has taken over the policy's files. Refused: the revision before stays in force.",
            "none",
            Query('max(sluicegate_policy_refused{job=~"$job"})'),
            words={"0": ("in force", GREEN), "1": ("refused", RED)},
            width=4,
            alerts=("PolicyReloadFailed",),
        ),
        number(
            "Withdrawals in force",
            "What operators have closed. `sluicegate withdraw list` shows them.",
            "none",
            Query('sum(max by (job, kind) (sluicegate_withdrawals_in_force{job=~"$job"}))'),
            colours=((1, YELLOW),),
            width=4,
        ),
        number(
            "Signatures",
            "Whether a change of the policy needs signatures. Off is for trials.",
            "none",
            Query('min(sluicegate_policy_signatures_required{job=~"$job"})'),
            words={"0": ("off", RED), "1": ("required", GREEN)},
            width=4,
        ),
        number(
            "Audit log",
            "Whether every replica keeps an audit log. Off is for trials.",
            "none",
            Query('min(sluicegate_audit_enabled{job=~"$job"})'),
            words={"0": ("off", RED), "1": ("kept", GREEN)},
            width=4,
        ),
        number(
            "Misuse signals",
            "Whether every replica looks for misuse in prompts and outputs.",
            "none",
            Query('min(sluicegate_signals_enabled{job=~"$job"})'),
            words={"0": ("off", RED), "1": ("on", GREEN)},
            width=4,
        ),
    ]


def _bias() -> Panel:
    return graph(
        "Bias by model and suite",
        "Share of pairs in which the weights that are served prefer the stereotype; 50 % is even. By the newest"
        " evidence in the policy directory.",
        "percentunit",
        Query('max by (model, suite) (sluicegate_bias_score{job=~"$job", model=~"$model"})', "{{model}} {{suite}}"),
        width=24,
        top=1,
    )


def _policy() -> list[Panel]:
    return [
        columns(
            "Policy by replica",
            "Revision and stage that each replica has. Two revisions for five minutes: PolicySkew.",
            [("job", "Deployment"), ("instance", "Replica"), ("revision", "Revision"), ("stage", "Stage")],
            [
                Column(
                    "Is in force",
                    'max by (job, instance, revision, stage) (sluicegate_policy_info{job=~"$job"})',
                    "bool",
                )
            ],
            width=12,
            alerts=("PolicySkew",),
        ),
        graph(
            "Reloads of the policy",
            "Changed policies taken over or refused, in half an hour. After a refusal the one before stays in force.",
            "short",
            Query('round(sum by (result) (increase(sluicegate_policy_reloads_total{job=~"$job"}[30m])))', "{{result}}"),
            width=6,
            paint={"loaded": GREEN, "refused": RED},
            alerts=("PolicyReloadFailed",),
        ),
        graph(
            "Withdrawals by kind",
            "How many of each kind are in force.",
            "short",
            Query(above_zero('max by (kind) (sluicegate_withdrawals_in_force{job=~"$job"})'), "{{kind}}"),
            width=6,
        ),
        agreements.ends(12),
        graph(
            "Tokens per second by model and audience",
            "Tokens read and generated, by whom they were for. What is closed above must be missing here.",
            "short",
            Query(
                above_zero(
                    "sum by (model, audience) (label_replace(label_replace("
                    'rate(sluicegate_tokens_total{job=~"$job", model=~"$model"}[$__rate_interval]),'
                    ' "audience", "partner", "partner", ".*"), "audience", "$1", "partner", "(public|internal)"))'
                ),
                "{{model}} {{audience}}",
            ),
            is_stacked=True,
            alerts=("UnreleasedModelServed",),
        ),
    ]


def _decisions() -> list[Panel]:
    return [
        graph(
            "Allowed and denied",
            "Decisions of access control, a second.",
            "reqps",
            Query(
                f"sum by (decision) (rate(sluicegate_decisions_total{{{ASKED}}}[$__rate_interval]))",
                "{{decision}}",
            ),
            width=8,
            paint={"allowed": GREEN, "denied": ORANGE},
        ),
        graph(
            "Denials by reason",
            "The ten most frequent reasons, a second. docs/access.md says what each means.",
            "reqps",
            Query(above_zero(f"sum by (reason) (rate({DENIED}[$__rate_interval]))", most=10), "{{reason}}"),
            width=8,
        ),
        graph(
            "Denials by model",
            "What was asked for, a second; `other` is what no policy has, and every refused token.",
            "reqps",
            Query(above_zero(f"sum by (model) (rate({DENIED}[$__rate_interval]))"), "{{model}}"),
            width=8,
        ),
    ]


def _control() -> list[Panel]:
    return [
        graph(
            "Age of withdrawals",
            "Since the state store last confirmed the list. Above 5 s partners are refused.",
            "s",
            Query('max by (instance) (sluicegate_withdrawals_age_seconds{job=~"$job"})', "{{instance}}"),
            width=6,
            line=limit("WithdrawalsStale"),
            alerts=("WithdrawalsStale",),
        ),
        graph(
            "Age of keys",
            "Age of the oldest issuer's key set. At 24 h its tokens are refused.",
            "s",
            Query('max by (instance) (sluicegate_jwks_age_seconds{job=~"$job"})', "{{instance}}"),
            width=6,
            line=limit("KeysStale", "ticket"),
            alerts=("KeysStale",),
        ),
        graph(
            "Age of the audit log's checkpoint",
            "Since the last signed checkpoint was on the disk. 0 where there is no log.",
            "s",
            Query('max by (instance) (sluicegate_audit_checkpoint_age_seconds{job=~"$job"})', "{{instance}}"),
            width=6,
            line=limit("AuditStopped"),
            alerts=("AuditStopped",),
        ),
        graph(
            "Failures of the audit log",
            "Writes that failed and calls refused for it, in five minutes, by cause.",
            "short",
            Query(
                above_zero('round(sum by (cause) (increase(sluicegate_audit_failures_total{job=~"$job"}[5m])))'),
                "{{cause}}",
            ),
            width=6,
            is_stacked=True,
            line=10,
            alerts=("AuditStopped",),
        ),
    ]
