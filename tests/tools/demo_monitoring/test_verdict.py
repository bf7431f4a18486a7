"""The final table says "as narrated" only if all that was expected came, and nothing else did."""

from __future__ import annotations

import pytest

from tools.demo_monitoring.lookout import Alert, Board, Sighting
from tools.demo_monitoring.verdict import Row, Scenario, missing, rows

CAMPAIGN = Alert("TemplateCampaign", "bulk")
DUPLICATES = Alert("MassDuplicates", "bulk")
FORGED = Alert("ForgedTokens")
SCENARIOS = (
    Scenario(name="honest", partner="lab"),
    Scenario(name="letters", partner="bulk", expects={CAMPAIGN: "pages", DUPLICATES: None}),
    Scenario(name="forged", expects={FORGED: "tickets"}),
)
BEGUN = (0.0, 10.0, 30.0)


def sighting(at_seconds: float, area: str = "misuse") -> Sighting:
    return Sighting(at_seconds, "ticket", area, "A summary")


def whole() -> Board:
    return Board(
        firing={CAMPAIGN: sighting(14), DUPLICATES: sighting(21), FORGED: sighting(32)},
        told={CAMPAIGN: "pages", FORGED: "tickets"},
        kept_back={DUPLICATES},
    )


def problems(board: Board) -> dict[str, tuple[str, ...]]:
    return {row.scenario: row.problems for row in rows(SCENARIOS, BEGUN, board) if row.problems}


def test_all_as_narrated() -> None:
    assert rows(SCENARIOS, BEGUN, whole()) == [
        Row("honest", "none", "none", ()),
        Row("letters", "TemplateCampaign, MassDuplicates", "TemplateCampaign (4 s), MassDuplicates (11 s)", ()),
        Row("forged", "ForgedTokens", "ForgedTokens (2 s)", ()),
    ]


def test_an_alert_that_does_not_come_is_a_problem() -> None:
    board = whole()
    del board.firing[FORGED]

    assert problems(board) == {"forged": ("ForgedTokens did not fire",)}


@pytest.mark.parametrize("told", [{}, {FORGED: "pages"}])
def test_an_alert_of_which_the_right_people_do_not_hear_is_a_problem(told: dict[Alert, str]) -> None:
    board = whole()
    board.told = {CAMPAIGN: "pages", **told}

    assert problems(board) == {"forged": ("tickets was not told of ForgedTokens",)}


def test_an_alert_that_should_be_kept_back_and_is_not_is_a_problem() -> None:
    board = whole()
    board.kept_back.clear()

    assert missing(SCENARIOS[1], board) == ["Alertmanager did not keep MassDuplicates back"]


def test_an_alert_of_the_honest_partner_is_a_problem_however_late() -> None:
    board = whole()
    board.firing[Alert("VolumeSpike", "lab")] = sighting(40)

    assert problems(board) == {"honest": ("VolumeSpike fired: A summary",)}


def test_an_alert_without_a_partner_belongs_to_what_was_under_way() -> None:
    board = whole()
    board.firing[Alert("LabelOverflow")] = sighting(12)

    assert problems(board) == {"letters": ("LabelOverflow fired: A summary",)}


def test_alerts_about_the_machine_are_nobodys_misuse() -> None:
    board = whole()
    board.firing[Alert("ServerDown")] = sighting(12, area="service")

    assert problems(board) == {}
