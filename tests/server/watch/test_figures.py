from __future__ import annotations

import math

import httpx
import pytest
from metrics_pages import samples_of, server_metrics

from sluicegate.auth import Reason
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.signals.sketches import Figures as Windows
from sluicegate.server.watch.figures import ModelFigures, PartnerFigures, View, view_of
from sluicegate.server.watch.servers import Scrape, Server


class Watched:
    """A server with its metrics; `look` reads its page, two seconds after the one before."""

    def __init__(self, port: int = 9464, **changes: str) -> None:
        self.metrics: Metrics = server_metrics(**changes)  # type: ignore[arg-type]
        self.server = Server(httpx.URL(f"http://127.0.0.1:{port}/metrics"))
        self._now = 0.0

    def look(self) -> None:
        self.server.take(Scrape(self._now, samples_of(self.metrics)))
        self._now += 2


def partner(view: View, name: str) -> PartnerFigures:
    [found] = [each for each in view.partners if each.partner == name]
    return found


def model(view: View, name: str) -> ModelFigures:
    [found] = [each for each in view.models if each.model == name]
    return found


def test_rates_of_partners_are_summed_over_replicas() -> None:
    replicas = [Watched(1), Watched(2)]
    for replica in replicas:
        replica.look()
        replica.metrics.access.tokens.labels("newsroom", "gpt2-124m", "input").inc(20)
        replica.metrics.access.tokens.labels("newsroom", "gpt2-124m", "output").inc(40)
        replica.metrics.access.tokens.labels("newsroom", "gpt2-774m", "output").inc(10)
        replica.metrics.access.requests.labels("newsroom", "gpt2-124m", "generate").inc(2)
        replica.metrics.access.streams_active.labels("newsroom", "gpt2-124m").set(3)
        replica.metrics.access.take_denial(Reason.MODEL_NOT_RELEASED, "newsroom")
        replica.look()

    row = partner(view_of([replica.server for replica in replicas]), "newsroom")

    assert (row.input_tokens_per_second, row.output_tokens_per_second, row.requests_per_second) == (20, 50, 2)
    assert row.streams == 6
    assert {kind: count for kind, count in row.denials_per_minute.items() if count} == {"stage": 60}


def test_before_the_second_page_there_are_no_rates() -> None:
    watched = Watched()
    watched.look()

    row = partner(view_of([watched.server]), "newsroom")

    assert (row.input_tokens_per_second, row.requests_per_second, dict(row.denials_per_minute)) == (None, None, {})


def test_figures_of_all_replicas_together_are_not_summed() -> None:
    replicas = [Watched(1), Watched(2)]
    for replica, windows in zip(replicas, (Windows(0.5, 0.1, 800, 3, 7), Windows(0.4, 0.2, 900, 3, 6)), strict=True):
        replica.metrics.signals.take_figures("newsroom", windows)
        replica.metrics.quotas.take_used(
            "newsroom", {"requests_per_minute": 0.2, "output_tokens_per_day": windows.prompt_duplicate_ratio}
        )
        replica.look()

    row = partner(view_of([replica.server for replica in replicas]), "newsroom")

    assert (row.prompt_duplicate_ratio, row.output_duplicate_ratio) == (0.5, 0.2)
    assert (row.template_campaigns, row.prompts_distinct, row.networks_per_token) == (3, 900, 7)
    assert (row.quota_used_ratio, row.quota_limit) == (0.5, "output_tokens_per_day")


def test_rare_signals_are_counted_since_watching_began() -> None:
    watched = Watched()
    watched.metrics.signals.take_pii("newsroom", "email", 100)
    for _ in range(2):
        watched.look()
        watched.metrics.signals.take_pii("newsroom", "email", 2)
        watched.metrics.signals.take_pii("newsroom", "phone")
        watched.metrics.signals.take_flagged("newsroom", "fraud")
        watched.metrics.access.offhours_requests.labels("newsroom").inc()
        watched.metrics.signals.take_memorisation_suspect("gpt2-124m")
    watched.look()

    view = view_of([watched.server])

    row = partner(view, "newsroom")
    assert (row.pii_found, row.flagged_lexicon, row.offhours_requests) == (6, 2, 2)
    assert model(view, "gpt2-124m").memorisation_suspects == 2


def test_models_tell_of_room_and_latency() -> None:
    replicas = [Watched(1), Watched(2)]
    for replica, used in zip(replicas, (0.25, 0.75), strict=True):
        replica.look()
        replica.metrics.engine.queue_length.labels("gpt2-124m").set(2)
        replica.metrics.engine.sequences_running.labels("gpt2-124m").set(4)
        replica.metrics.engine.slots_used.labels("gpt2-124m").set(used)
        for seconds in (0.03, 0.03, 0.03, 0.2):
            replica.metrics.latency.first_token_seconds.labels("gpt2-124m").observe(seconds)
        replica.look()

    view = view_of([replica.server for replica in replicas])

    row = model(view, "gpt2-124m")
    assert (row.ready, row.open_to, row.queue, row.running, row.slots_used_ratio) == (2, "public", 4, 8, 0.75)
    assert row.first_token_p50 == pytest.approx(0.02 + 0.02 * 4 / 6)
    assert row.first_token_p95 == pytest.approx(0.1 + 0.15 * 1.6 / 2)
    assert (model(view, "gpt2-774m").ready, model(view, "gpt2-774m").open_to) == (0, "partner")
    assert model(view, "gpt2-774m").first_token_p50 is None


def test_the_worst_replica_tells_whether_control_is_in_order() -> None:
    replicas = [Watched(1), Watched(2)]
    for replica, age in zip(replicas, (1.0, 70.0), strict=True):
        control = replica.metrics.control
        control.audit_checkpoint_age_seconds.set(age)
        control.withdrawals_age_seconds.set(age / 10)
        control.keys_age_seconds.set(math.inf if age > 1 else age)
        control.withdrawals_in_force.labels("token").set(2)
        control.withdrawals_in_force.labels("model").set(1)
        replica.look()
    replicas[1].metrics.control.audit_enabled.set(0)
    replicas[1].look()

    control_figures = view_of([replica.server for replica in replicas]).control

    assert (control_figures.audit_enabled, control_figures.audit_checkpoint_age) == (False, 70)
    assert (control_figures.withdrawals_age, control_figures.keys_age) == (7, math.inf)
    assert control_figures.withdrawals_in_force == 3


def test_skew_between_replicas_is_seen() -> None:
    replicas = [Watched(1), Watched(2, revision="77aa")]
    for replica in replicas:
        replica.look()

    assert view_of([replica.server for replica in replicas]).policies == (("5f0c", "s2"), ("77aa", "s2"))


def test_a_server_that_is_gone_counts_no_more() -> None:
    replicas = [Watched(1), Watched(2, revision="77aa")]
    for replica in replicas:
        replica.metrics.access.streams_active.labels("newsroom", "gpt2-124m").set(3)
        replica.look()
    replicas[1].server.fail("cannot be reached")

    view = view_of([replica.server for replica in replicas])

    assert (view.answering, view.policies) == (1, (("5f0c", "s2"),))
    assert (view.servers[1].name, view.servers[1].problem) == ("127.0.0.1:2", "cannot be reached")
    assert partner(view, "newsroom").streams == 3


def test_the_most_active_partners_come_first_and_the_quiet_ones_by_name() -> None:
    watched = Watched()
    watched.look()
    watched.metrics.access.tokens.labels("public", "gpt2-124m", "output").inc(5_000)
    watched.metrics.access.tokens.labels("newsroom", "gpt2-124m", "output").inc(50)
    watched.look()

    names = [row.partner for row in view_of([watched.server]).partners]

    assert names == ["public", "newsroom", "example-lab", "internal", "other"]


def test_nobody_answering_is_a_view_too() -> None:
    view = view_of([Server(httpx.URL("http://127.0.0.1:1/"))])

    assert (view.answering, view.partners, view.models, view.control.audit_enabled) == (0, (), (), None)


def test_what_callers_made_up_is_no_model() -> None:
    watched = Watched()
    watched.look()

    assert [row.model for row in view_of([watched.server]).models] == ["gpt2-124m", "gpt2-774m"]
