"""What is shown of quotas, and what is asked of the ledger for it."""

from __future__ import annotations

from typing import cast

from policies import agreement, policy

from sluicegate.auth import Audience, Grant, Quotas
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.quota_figures import QuotaFigures
from sluicegate.server.state import Account, Quota, StateUnavailable, Store, Usage

CLIENTS = [{"issuer": "https://issuer.example", "client": "another"}]
IN_FORCE = policy(
    None,
    agreement(quotas={"concurrent_streams": 4, "output_tokens_per_day": 1000}),
    agreement(id="agr-second", clients=CLIENTS, quotas={"output_tokens_per_day": 100}),
)
DAY = "output_tokens_per_day"


class Books:
    """A ledger with what each account has used; None: it does not answer."""

    def __init__(self) -> None:
        self.used: dict[str, dict[Quota, int]] | None = {}
        self.asked: list[str] = []

    async def usage(self, account: Account, quotas: Quotas) -> tuple[Usage, ...]:
        self.asked.append(account.key)
        if self.used is None:
            raise StateUnavailable("cut off")
        used = self.used.get(account.key, {})
        limits = {quota: getattr(quotas, quota) for quota in Quota}
        return tuple(Usage(quota, limit, used.get(quota, 0), None) for quota, limit in limits.items() if limit)


class Desk:
    def __init__(self) -> None:
        self.metrics, self.books = Metrics(), Books()
        self.metrics.allow(IN_FORCE.models, ["example-lab"])
        self.figures = QuotaFigures(cast(Store, self.books), lambda: IN_FORCE, self.metrics)

    def used(self, limit: str = DAY, partner: str = "example-lab") -> float | None:
        return self.metrics.registry.get_sample_value(
            "sluicegate_quota_used_ratio", {"partner": partner, "limit": limit}
        )

    def refusals(self, partner: str, limit: str = DAY) -> float | None:
        return self.metrics.registry.get_sample_value(
            "sluicegate_quota_refusals_total", {"partner": partner, "limit": limit}
        )


def grant(agreement_id: str | None = "agr-example-lab", partner: str = "example-lab") -> Grant:
    return Grant(
        action="generate",
        model="gpt2-124m",
        audience=Audience.PARTNER,
        stage="s2",
        policy_revision="",
        agreement=agreement_id,
        partner=partner,
        max_output_tokens=None,
        watermark=False,
        redaction=None,
        stop_flagged=False,
        outside_hours=False,
        expires_at=0,
        quotas=Quotas(),
    )


async def test_the_highest_share_among_a_partners_agreements_is_shown() -> None:
    desk = Desk()
    desk.books.used = {
        "agreement/agr-example-lab": {Quota.CONCURRENT_STREAMS: 1, Quota.OUTPUT_TOKENS_PER_DAY: 500},
        "agreement/agr-second": {Quota.OUTPUT_TOKENS_PER_DAY: 90},
    }

    desk.figures.hear(grant(), None)
    desk.figures.hear(grant("agr-second"), None)
    await desk.figures.refresh()

    assert desk.used() == 0.9
    assert desk.used("concurrent_streams") == 0.25
    assert desk.used("scored_tokens_per_day") == 0


async def test_an_agreement_without_calls_is_not_asked_about() -> None:
    desk = Desk()

    desk.figures.hear(grant(), None)
    desk.figures.hear(grant(None, "public"), None)
    await desk.figures.refresh()

    assert desk.books.asked == ["agreement/agr-example-lab"]


async def test_an_agreement_is_asked_about_until_nothing_of_it_is_used() -> None:
    desk = Desk()
    desk.figures.hear(grant(), None)
    desk.books.used = {"agreement/agr-example-lab": {Quota.OUTPUT_TOKENS_PER_DAY: 500}}
    await desk.figures.refresh()
    before = desk.used()

    desk.books.used = {}  # midnight
    for _ in range(3):
        await desk.figures.refresh()

    assert (before, desk.used()) == (0.5, 0)
    assert len(desk.books.asked) == 2


async def test_figures_stay_while_the_ledger_does_not_answer_and_come_again_with_it() -> None:
    desk = Desk()
    desk.figures.hear(grant(), None)
    desk.books.used = {"agreement/agr-example-lab": {Quota.OUTPUT_TOKENS_PER_DAY: 500}}
    await desk.figures.refresh()

    desk.books.used = None
    await desk.figures.refresh()
    during = desk.used()
    desk.books.used = {"agreement/agr-example-lab": {Quota.OUTPUT_TOKENS_PER_DAY: 600}}
    await desk.figures.refresh()

    assert (during, desk.used()) == (0.5, 0.6)


async def test_an_agreement_that_left_the_policy_uses_nothing() -> None:
    desk = Desk()

    desk.figures.hear(grant("agr-gone"), None)
    await desk.figures.refresh()

    assert desk.books.asked == []


def test_refusals_are_counted_for_everybody() -> None:
    desk = Desk()

    desk.figures.hear(grant(), Quota.OUTPUT_TOKENS_PER_DAY)
    desk.figures.hear(grant(None, "public"), Quota.OUTPUT_TOKENS_PER_DAY)

    assert (desk.refusals("example-lab"), desk.refusals("public"), desk.refusals("internal")) == (1, 1, 0)
