"""The ends of agreements, which two dashboards show."""

from __future__ import annotations

from tools.dashboards.limits import limit
from tools.dashboards.panels import GREEN, RED, YELLOW, Column, Panel, columns

ALERT = "AgreementExpiringSoon"
DAY = 86_400


def left(selector: str) -> Column:
    """How long each partner's agreement still lasts; below 0 it is over."""
    expiry = f"min by (partner) (sluicegate_agreement_expiry_timestamp_seconds{{{selector}}})"
    colours = ((None, RED), (1, YELLOW), (limit(ALERT) / DAY, GREEN))
    return Column("Agreement ends in", f"({expiry} - time()) / {DAY}", "suffix: days", colours, decimals=1)


def ends(width: int) -> Panel:
    """When each partner's agreement ends."""
    column = left('job=~"$job"')
    return columns(
        "Agreements",
        "Time until each partner's next agreement ends; below 0 it is over. AgreementExpiringSoon: below 14 days.",
        [("partner", "Partner")],
        [column],
        width=width,
        order_by=(column.title, False),
        alerts=(ALERT,),
    )
