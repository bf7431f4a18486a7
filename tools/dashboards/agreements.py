"""The panel on the ends of agreements, which two dashboards have."""

from __future__ import annotations

from tools.dashboards.limits import limit
from tools.dashboards.panels import GREEN, RED, YELLOW, Column, Panel, columns

EXPIRY = 'min by (partner) (sluicegate_agreement_expiry_timestamp_seconds{job=~"$job"})'


def ends(width: int) -> Panel:
    """When each partner's agreement ends."""
    soon = limit("AgreementExpiringSoon")
    left = Column(
        "Ends in",
        f"sort({EXPIRY} - time())",
        "dtdurations",
        colours=((float("-inf"), RED), (86_400, YELLOW), (soon, GREEN)),
    )
    return columns(
        "Agreements end in",
        "Time until each partner's next agreement ends; below 0 it is over. AgreementExpiringSoon: below 14 days.",
        [("partner", "Partner")],
        [left],
        width=width,
        alerts=("AgreementExpiringSoon",),
    )
