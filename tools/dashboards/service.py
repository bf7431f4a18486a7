"""Is the service well? How fast, how much, how full, and how much of the error budget is left."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard

from tools.dashboards.frame import Row, framed
from tools.dashboards.limits import limit
from tools.dashboards.panels import BLUE, GREEN, ORANGE, RED, YELLOW, Panel, Query, above_zero, graph, number, timeline

OURS = 'job=~"$job", grpc_service=~"sluicegate[.]v1[.].+"'
ALERTS = 'job=~"$job|", area=~"misuse|control|service", alertstate="firing"'
SCOPE = '{job=~"$job", model=~"$model"}'
CALLS = f"grpc_server_handled_total{{{OURS}"
FAILED = f'{CALLS}, grpc_code=~"INTERNAL|UNKNOWN|UNAVAILABLE"}}'
UP = 'up{job=~"$job", job=~".*sluicegate.*"}'
BUDGET = 0.005
"""Share of calls that may fail: the objective is 99.5 %."""
SERVED = f"sluicegate_model_ready{SCOPE} and max_over_time(sluicegate_model_ready{SCOPE}[24h]) > 0"
"""Models that this deployment serves: the metric is 0 also for models of the policy that are served elsewhere."""
CODES = {
    "OK": GREEN,
    "CANCELLED": BLUE,
    "DEADLINE_EXCEEDED": "purple",
    "UNAUTHENTICATED": YELLOW,
    "PERMISSION_DENIED": ORANGE,
    "RESOURCE_EXHAUSTED": "super-light-orange",
    "INTERNAL": RED,
    "UNKNOWN": "dark-red",
    "UNAVAILABLE": "semi-dark-red",
}
"""Colours of those codes that mean something of themselves."""
FAST, SLOW = "ErrorBudgetBurnFast", "ErrorBudgetBurnSlow"


def build() -> dashboard.Dashboard:
    """The dashboard."""
    return framed(
        "sluicegate-service",
        "Sluicegate: service",
        "Is the service well: calls, latency, engine and error budget.",
        ["job", "model"],
        [
            Row("At a glance", _glance()),
            Row("Calls", _calls()),
            Row("Latency", _latency()),
            Row("Engine", _engine()),
            Row("Error budget", [_burn()]),
            Row("Front-end processes", _processes(), is_folded=True),
        ],
    )


def _glance() -> list[Panel]:
    return [
        number(
            "Replicas",
            "Replicas that Prometheus reaches, and those that it does not.",
            "none",
            Query(f"count({UP} == 1) or vector(0)", "up"),
            colours=((None, RED), (1, GREEN)),
            beside=(Query(f"count({UP} == 0) or vector(0)", "down"), ((1, RED),)),
            alerts=("ServerDown", "ReplicaDown"),
        ),
        number(
            "Firing alerts",
            "Alerts that fire now: pages, and tickets that can wait for the morning. The misuse dashboard lists them.",
            "none",
            Query(f'count(ALERTS{{{ALERTS}, severity="page"}}) or vector(0)', "pages"),
            colours=((1, RED),),
            beside=(Query(f'count(ALERTS{{{ALERTS}, severity="ticket"}}) or vector(0)', "tickets"), ((1, YELLOW),)),
        ),
        number(
            "Calls",
            "Calls of the API that ended, a second.",
            "reqps",
            Query(f"sum(rate({CALLS}}}[$__rate_interval]))"),
        ),
        number(
            "Failed calls",
            "Share of the calls of the last five minutes that failed by the server's fault. Refusals are no faults.",
            "percentunit",
            Query('max(job:sluicegate_rpc_errors:ratio_rate5m{job=~"$job"} >= 0)'),
            colours=((BUDGET, YELLOW), (limit(FAST), RED)),
            alerts=(FAST,),
        ),
        number(
            "First token, 95 %",
            "95 of 100 generations of the last five minutes had their first token within this time, queue included.",
            "s",
            Query(f"{_quantile(0.95, 'gen_ai_server_time_to_first_token_seconds', '5m')} >= 0"),
            colours=((1, YELLOW), (5, RED)),
        ),
        number(
            "Models ready",
            "Models that answer on every replica, as a share of those that answered at all in the last 24 hours.",
            "percentunit",
            Query(f"avg(min by (job, model) ({SERVED}))"),
            colours=((None, RED), (1, GREEN)),
            alerts=("EngineRestarting",),
        ),
    ]


def _calls() -> list[Panel]:
    return [
        graph(
            "Calls by method",
            "Calls that began, a second.",
            "reqps",
            Query(
                above_zero(f"sum by (grpc_method) (rate(grpc_server_started_total{{{OURS}}}[$__rate_interval]))"),
                "{{grpc_method}}",
            ),
            is_stacked=True,
        ),
        graph(
            "Calls by code",
            "How calls ended, a second. PERMISSION_DENIED, UNAUTHENTICATED and RESOURCE_EXHAUSTED are refusals.",
            "reqps",
            Query(above_zero(f"sum by (grpc_code) (rate({CALLS}}}[$__rate_interval]))"), "{{grpc_code}}"),
            is_stacked=True,
            paint=CODES,
        ),
        graph(
            "Errors by code",
            "Calls that failed by the server's fault, a second. UNAVAILABLE: queue full, engine lost, control stale.",
            "reqps",
            Query(
                above_zero(f"sum by (grpc_method, grpc_code) (rate({FAILED}[$__rate_interval]))"),
                "{{grpc_method}} {{grpc_code}}",
            ),
            alerts=(FAST, SLOW),
        ),
        graph(
            "Early ends of generations",
            "Generations that ended before their own limits did, in each interval, by cause.",
            "short",
            Query(
                above_zero(
                    f"round(sum by (cause) (increase(sluicegate_streams_terminated_total{SCOPE}[$__rate_interval])))"
                ),
                "{{cause}}",
            ),
            is_stacked=True,
        ),
    ]


def _latency() -> list[Panel]:
    return [
        _quantiles(
            "Time to first token",
            "gen_ai_server_time_to_first_token_seconds",
            "From a call's arrival to its first token, queue included.",
        ),
        _quantiles(
            "Time per token",
            "gen_ai_server_time_per_output_token_seconds",
            "Mean time between two tokens of one call, after the first.",
        ),
        _quantiles(
            "Duration of a generation",
            "gen_ai_server_request_duration_seconds",
            "From a call's arrival to its end, however it ended.",
        ),
    ]


def _engine() -> list[Panel]:
    engine = '{job=~"$job", model=~"$model", model!="other"}'
    step = "sluicegate_engine_step_duration_seconds_bucket"
    return [
        graph(
            "Streams",
            "Generations under way, waiting ones included.",
            "short",
            Query(above_zero(f"sum by (model) (sluicegate_streams_active{SCOPE})"), "{{model}}"),
            width=8,
            is_stacked=True,
        ),
        graph(
            "Queue",
            "Requests that wait for a slot, over all replicas.",
            "short",
            Query(f"sum by (model) (sluicegate_engine_queue_length{engine})", "{{model}}"),
            width=8,
        ),
        graph(
            "Slots in use",
            "Share of slots that hold a sequence, of the fullest replica. At 100 % for long: more slots or replicas.",
            "percentunit",
            Query(f"max by (model) (sluicegate_engine_slots_used_ratio{engine})", "{{model}}"),
            width=8,
            line=0.9,
            top=1,
        ),
        graph(
            "Tokens per second",
            "Prompt tokens that engines read, those that they had cached, tokens that callers got, and those that had "
            "been guessed.",
            "short",
            Query(f"sum(rate(sluicegate_engine_prefill_tokens_total{SCOPE}[$__rate_interval]))", "read"),
            Query(f"sum(rate(sluicegate_prefix_cached_tokens_total{SCOPE}[$__rate_interval]))", "cached"),
            Query(
                f'sum(rate(sluicegate_tokens_total{SCOPE[:-1]}, direction="output"}}[$__rate_interval]))',
                "generated",
            ),
            Query(
                f'sum(rate(sluicegate_speculative_tokens_total{SCOPE[:-1]}, outcome="accepted"}}[$__rate_interval]))',
                "guessed",
            ),
            width=8,
        ),
        graph(
            "Batch",
            "Mean number of sequences in a forward pass, and how many hold a slot.",
            "short",
            Query(
                above_zero(
                    f"sum by (model) (rate(sluicegate_engine_batch_size_sum{engine}[$__rate_interval]))"
                    f" / sum by (model) (rate(sluicegate_engine_batch_size_count{engine}[$__rate_interval]))"
                ),
                "{{model}} in a pass",
            ),
            Query(
                above_zero(f"sum by (model) (sluicegate_engine_sequences_running{engine})"),
                "{{model}} in slots",
                is_dashed=True,
            ),
            width=8,
        ),
        graph(
            "Step, 95 %",
            "95 of 100 forward passes, with their sampling, take no longer.",
            "s",
            Query(
                above_zero(f"histogram_quantile(0.95, sum by (le, model) (rate({step}{engine}[$__rate_interval])))"),
                "{{model}}",
            ),
            width=8,
        ),
        timeline(
            "Models ready over time",
            "Whether a model answers on every replica. Models that never did in the 24 hours before are not here.",
            Query(f"min by (model) ({SERVED})", "{{model}}"),
            {"0": ("not ready", RED), "1": ("ready", GREEN)},
            width=12,
        ),
        graph(
            "Engine restarts",
            "Engine processes that were lost, in a quarter of an hour. The line is where EngineRestarting pages.",
            "short",
            Query(
                'round(sum by (instance) (increase(sluicegate_engine_restarts_total{job=~"$job"}[15m])))',
                "{{instance}}",
            ),
            width=6,
            is_stacked=True,
            line=limit("EngineRestarting"),
            alerts=("EngineRestarting",),
        ),
        graph(
            "Steps out of memory",
            "Steps that were run again in smaller ones, in a quarter of an hour. Streams go on, but slower: lower"
            " step_tokens or slots.",
            "short",
            Query(
                f"round(sum by (model) (increase(sluicegate_engine_steps_out_of_memory_total{SCOPE}[15m])))",
                "{{model}}",
            ),
            width=6,
        ),
    ]


def _burn() -> Panel:
    return graph(
        "Burn rate",
        "How many times faster than allowed the error budget (0.5 % of calls) is used. ErrorBudgetBurnFast: 5m and 1h"
        " above 14.4. ErrorBudgetBurnSlow: 30m and 6h above 6.",
        "none",
        *(
            Query(f'max(job:sluicegate_rpc_errors:ratio_rate{window}{{job=~"$job"}}) / {BUDGET}', window)
            for window in ("5m", "30m", "1h", "6h")
        ),
        width=24,
        line=14.4,
        alerts=(FAST, SLOW),
    )


def _processes() -> list[Panel]:
    return [
        graph(
            "CPU",
            "Cores that the front end uses. One Python process: at 1 for long it is the bottleneck.",
            "none",
            Query('rate(process_cpu_seconds_total{job=~"$job"}[$__rate_interval])', "{{instance}}"),
            width=8,
        ),
        graph(
            "Memory",
            "Resident memory of the front end, engines left out.",
            "bytes",
            Query('process_resident_memory_bytes{job=~"$job"}', "{{instance}}"),
            width=8,
        ),
        graph(
            "Open files",
            "Files and sockets of the front end, as a share of its limit.",
            "percentunit",
            Query('process_open_fds{job=~"$job"} / process_max_fds{job=~"$job"}', "{{instance}}"),
            width=8,
            line=0.8,
        ),
    ]


def _quantile(share: float, histogram: str, window: str = "$__rate_interval") -> str:
    series = f'{histogram}_bucket{{job=~"$job", gen_ai_request_model=~"$model"}}'
    return f"histogram_quantile({share}, sum by (le) (rate({series}[{window}])))"


def _quantiles(title: str, histogram: str, description: str) -> Panel:
    return graph(
        title,
        f"{description} Half, 95 % and 99 % of calls are below the lines.",
        "s",
        *(Query(_quantile(share, histogram), _percent(share)) for share in (0.5, 0.95, 0.99)),
        width=8,
    )


def _percent(share: float) -> str:
    return f"{share * 100:g} %"
