from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from sluicegate.server.watch.figures import Control, ModelFigures, PartnerFigures, ServerFigures, View
from sluicegate.server.watch.headline import STALE_SECONDS
from sluicegate.server.watch.screen import WIDE, render

ROOT = Path(__file__).parents[3]
SERVER = ServerFigures("gate-0:9464", None, "5f0c9a77be1d2c00", "s2")
CONTROL = Control(
    audit_enabled=True,
    audit_checkpoint_age=20.0,
    withdrawals_age=0.4,
    keys_age=120.0,
    signals_enabled=True,
    signals_exchange_age=3.0,
    withdrawals_in_force=0.0,
)
QUIET = PartnerFigures(
    partner="newsroom",
    input_tokens_per_second=0.0,
    output_tokens_per_second=0.0,
    requests_per_second=0.0,
    streams=0.0,
    denials_per_minute={},
    quota_used_ratio=None,
    quota_limit=None,
    prompts_seen=0.0,
    outputs_seen=0.0,
    prompt_duplicate_ratio=0.0,
    output_duplicate_ratio=0.0,
    template_campaigns=0.0,
    prompts_distinct=0.0,
    networks_per_token=0.0,
    pii_found=0.0,
    flagged_lexicon=0.0,
    offhours_requests=0.0,
)
BUSY = replace(
    QUIET,
    partner="example-lab",
    input_tokens_per_second=1234.0,
    output_tokens_per_second=98.0,
    denials_per_minute={"stage": 12.0, "quota": 3.0, "authn": 0.0},
    quota_used_ratio=0.97,
    prompts_seen=101.0,
    prompt_duplicate_ratio=0.82,
    template_campaigns=3.0,
    pii_found=4.0,
)
MODEL = ModelFigures(
    model="gpt2-124m",
    ready=1,
    open_to="public",
    queue=3.0,
    running=8.0,
    slots_used_ratio=0.5,
    output_tokens_per_second=98.0,
    first_token_p50=0.04,
    first_token_p95=0.2,
    memorisation_suspects=0.0,
)
VIEW = View((SERVER,), CONTROL, (BUSY, QUIET), (MODEL,))


def shown(view: View, *, width: int = 80, height: int | None = 24, colours: bool = False) -> list[str]:
    """The lines as they come out of the console."""
    file = io.StringIO()
    console = Console(
        file=file, width=width, force_terminal=colours, color_system="standard" if colours else None, markup=True
    )
    console.print(render(view, width=width, height=height, hint="q ends"))
    return file.getvalue().splitlines()


def test_a_narrow_terminal_has_all_that_matters_on_a_screen() -> None:
    lines = shown(VIEW)

    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "policy  stage s2, revision 5f0c9a77be1d" in text
    assert "audit 20 s  withdrawals 0.4 s  keys 2 min" in text
    [row] = [line for line in lines if line.startswith("example-lab")]
    assert row.split() == [
        "example-lab",
        "1.2k",
        "98",
        "0",
        "0",
        "stage",
        "12",
        "+",
        "97%",
        "camp",
        "3",
        "dup",
        "82%",
        "pii",
        "4",
    ]
    [row] = [line for line in lines if line.startswith("gpt2-124m")]
    assert row.split() == ["gpt2-124m", "1", "public", "3", "8", "50%", "98", "40", "200", "0"]
    assert lines[-1] == "q ends"


def test_a_wide_terminal_has_a_column_for_each_signal() -> None:
    lines = shown(VIEW, width=WIDE, height=40)

    assert max(map(len, lines)) <= WIDE
    [row] = [line for line in lines if line.startswith("example-lab")]
    assert row.split()[5:] == ["0", "-", "12", "-", "3", "-", "97%", "82%", "0%", "3", "0", "0", "4", "0", "0"]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (140, 40), (100, 14)])
def test_rows_that_have_no_room_are_counted(width: int, height: int) -> None:
    partners = tuple(replace(QUIET, partner=f"partner-{number}") for number in range(60))
    models = tuple(replace(MODEL, model=f"gpt2-{number}") for number in range(30))

    lines = shown(replace(VIEW, partners=partners, models=models), width=width, height=height)

    assert len(lines) <= height
    shown_partners = sum(line.startswith("partner-") for line in lines)
    assert f"and {60 - shown_partners} partners more" in [line.strip() for line in lines]
    assert any(line.startswith("gpt2-") for line in lines)


def test_without_a_height_all_rows_are_there() -> None:
    partners = tuple(replace(QUIET, partner=f"partner-{number}") for number in range(60))

    lines = shown(replace(VIEW, partners=partners), height=None)

    assert sum(line.startswith("partner-") for line in lines) == 60


def test_duplicates_of_few_prompts_say_nothing() -> None:
    few = replace(BUSY, prompts_seen=100.0)

    assert "dup" not in " ".join(line for line in shown(replace(VIEW, partners=(few,))) if line.startswith("example"))
    wide = {
        seen: shown(replace(VIEW, partners=(replace(BUSY, prompts_seen=seen),)), width=WIDE, colours=True)
        for seen in (100.0, 101.0)
    }
    assert any("\x1b[2m82%" in line for line in wide[100.0])
    assert any("\x1b[33m82%" in line for line in wide[101.0])


@pytest.mark.parametrize("what", ["audit", "signals"])
def test_what_is_off_is_said(what: str) -> None:
    control = replace(CONTROL, **{f"{what}_enabled": False})

    [line] = [line for line in shown(replace(VIEW, control=control), colours=True) if "keys" in line]

    assert f"{what} \x1b[0m\x1b[33moff" in line


def test_ages_have_the_colours_of_their_alerts() -> None:
    rules = (ROOT / "helm/sluicegate/files/rules.yaml").read_text()

    assert f"sluicegate_jwks_age_seconds) > {STALE_SECONDS['keys'][0]:.0f}\n" in rules
    assert f"sluicegate_jwks_age_seconds) > {STALE_SECONDS['keys'][1]:.0f}\n" in rules
    assert f"sluicegate_audit_checkpoint_age_seconds) > {STALE_SECONDS['audit'][1]:.0f}\n" in rules


def test_servers_that_do_not_answer_are_named() -> None:
    gone = ServerFigures("gate-1:9464", "cannot be reached", None, None)

    one = shown(replace(VIEW, servers=(SERVER, gone)))
    none = shown(View((gone,), CONTROL, (), ()))

    assert one[:2] == ["sluicegate  1 of 2 servers answer", "gate-1:9464: cannot be reached"]
    assert "No server answers." in none


def test_skew_of_policies_is_told_in_red() -> None:
    other = replace(SERVER, name="gate-1:9464", revision="77aa", stage="s1")

    lines = shown(replace(VIEW, servers=(SERVER, other)), colours=True)

    [line] = [line for line in lines if "POLICY SKEW" in line]
    assert "stage s2, revision 5f0c9a77be1d on 1; stage s1, revision 77aa on 1" in line
    assert "\x1b[1;31m" in line


@pytest.mark.parametrize(
    ("changes", "what", "colour"),
    [
        ({"withdrawals_age": 0.4}, "0.4 s", "\x1b[32m"),
        ({"withdrawals_age": 3.0}, "3 s", "\x1b[33m"),
        ({"withdrawals_age": 6.0}, "6 s", "\x1b[1;31m"),
        ({"audit_checkpoint_age": 700.0}, "12 min", "\x1b[1;31m"),
        ({"keys_age": float("inf")}, "never", "\x1b[1;31m"),
        ({"audit_enabled": False}, "off", "\x1b[33m"),
        ({"withdrawals_in_force": 2.0}, "2", "\x1b[33m"),
    ],
)
def test_what_is_stale_has_a_colour(changes: dict[str, float], what: str, colour: str) -> None:
    control = replace(CONTROL, **changes)  # type: ignore[arg-type]

    text = "\n".join(shown(replace(VIEW, control=control), colours=True))

    assert f"{colour}{what}\x1b[0m" in text


HOSTILE = st.text(
    alphabet=st.sampled_from("a[]/\\\x1b\x07\x9b\r\n\t\u202e\u200b\u4e2d:(){}<>link=red"), min_size=1, max_size=80
)


@settings(max_examples=50)
@given(HOSTILE, st.integers(40, 200), st.integers(8, 50))
def test_names_of_an_impostor_can_neither_steer_the_terminal_nor_leave_their_place(
    text: str, width: int, height: int
) -> None:
    server = ServerFigures(text, None, text, text)
    view = View(
        (server, replace(server, problem=text)),
        CONTROL,
        (replace(BUSY, partner=text, denials_per_minute={text: 1.0}),),
        (replace(MODEL, model=text),),
    )

    lines = shown(view, width=width, height=height)

    assert all(letter.isprintable() for line in lines for letter in line)
    assert len(lines) <= max(height, 15)
