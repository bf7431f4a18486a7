"""Figures of partners: their windows, what replicas add up to, and what bounds them."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from templates import TEMPLATES, from_template, unlike

from sluicegate.server.signals.sketches import ExtractInvalid, Figures, Sketches
from sluicegate.server.signals.sketches import figures as figures_module
from sluicegate.server.signals.sketches.extracts import LARGEST_BYTES
from sluicegate.server.signals.sketches.recent import RecentExtract, repeated_across
from sluicegate.server.signals.sketches.sketches import CROSSING_SECONDS, EXTRACTS, OTHER, PARTNERS, SOURCES
from sluicegate.server.signals.sketches.windows import Moment

SALT = b"s" * 32
NOW = 1_770_000_000.0  # the start of a part of five minutes, and 40 minutes into an hour
MINUTE, HOUR = 60.0, 3_600.0


def sketches() -> Sketches:
    return Sketches(SALT)


def exchange(replicas: list[Sketches], now: float) -> None:
    """All hear of all."""
    for place, each in enumerate(replicas):
        for partner, data in each.changed(now).items():
            for other in replicas:
                if other is not each:
                    other.absorb(f"life-{place}", partner, data)


def remembers_fingerprints(seen: Sketches) -> bool:
    sketch = seen._own["a"]
    return bool(sketch._prompts._prints.any() and sketch._campaigns._leaders.any())


def test_prompt_seen_again_is_a_near_duplicate_and_an_unlike_one_is_not() -> None:
    seen = sketches()

    answers = [seen.see_prompt("a", text, NOW) for text in (unlike(1), unlike(2), unlike(1), unlike(1).upper())]

    assert answers == [False, False, True, True]
    assert seen.figures(NOW)["a"] == Figures(0.5, 0.0, 3, 0, 0)


def test_outputs_are_counted_apart_from_prompts() -> None:
    seen = sketches()
    seen.see_prompt("a", unlike(1), NOW)

    answers = [seen.see_output("a", unlike(1), NOW), seen.see_output("a", unlike(1), NOW)]

    assert answers == [False, True]
    assert seen.figures(NOW)["a"] == Figures(0.0, 0.5, 1, 0, 0)


def test_partners_are_counted_apart() -> None:
    seen = sketches()
    seen.see_prompt("a", unlike(1), NOW)

    assert not seen.see_prompt("b", unlike(1), NOW)
    assert set(seen.figures(NOW)) == {"a", "b"}


def test_short_prompts_count_as_seen_and_never_as_duplicates() -> None:
    seen = sketches()

    answers = [seen.see_prompt("a", text, NOW) for text in ("", "", "hi", "hi", "hello there", "hello there")]

    assert not any(answers)
    assert seen.figures(NOW)["a"] == Figures(0.0, 0.0, 3, 0, 0)


def test_prompt_that_was_not_seen_for_an_hour_is_new() -> None:
    seen = sketches()
    seen.see_prompt("a", unlike(1), NOW)
    still_known = seen.see_prompt("a", unlike(1), NOW + 55 * MINUTE)

    assert still_known
    assert not seen.see_prompt("a", unlike(1), NOW + 55 * MINUTE + HOUR)


def test_figures_of_the_hour_leave_with_it_and_those_of_the_day_stay() -> None:
    seen = sketches()
    for number in range(60):
        seen.see_prompt("a", from_template(TEMPLATES[0], number), NOW)
    seen.see_token("a", b"token", b"network", NOW)

    in_the_hour = seen.figures(NOW + 55 * MINUTE)["a"]
    after_it = seen.figures(NOW + HOUR)["a"]
    in_the_day = seen.figures(NOW + 23 * HOUR)["a"]
    after_the_day = seen.figures(NOW + 24 * HOUR)

    assert in_the_hour.template_campaigns == 1
    assert in_the_hour.prompt_duplicate_ratio > 0.3
    assert after_it == in_the_day == Figures(0.0, 0.0, in_the_hour.prompts_distinct, 0, 1)
    assert in_the_hour.prompts_distinct == pytest.approx(60, abs=6)
    assert after_the_day == {}


@pytest.mark.parametrize(("prompts", "found"), [(50, 0), (51, 1)])
def test_campaign_is_more_than_fifty_prompts_of_one_template(prompts: int, found: int) -> None:
    seen = sketches()

    for number in range(prompts):
        seen.see_prompt("a", from_template(TEMPLATES[1], number), NOW + number)
        seen.see_prompt("a", unlike(number), NOW + number)

    assert seen.figures(NOW + prompts)["a"].template_campaigns == found


def test_campaigns_are_found_in_a_flood_of_unlike_prompts() -> None:
    seen = sketches()

    for number in range(60):
        for template in TEMPLATES:
            seen.see_prompt("a", from_template(template, number), NOW + number)
        for flood in range(60):
            seen.see_prompt("a", unlike(1_000 * number + flood), NOW + number)

    assert seen.figures(NOW + 60)["a"].template_campaigns == len(TEMPLATES)


def test_campaign_over_two_hours_is_none_if_no_hour_has_enough_of_it() -> None:
    seen = sketches()

    for number in range(80):
        seen.see_prompt("a", from_template(TEMPLATES[0], number), NOW + number * 90)

    assert seen.figures(NOW + 80 * 90)["a"].template_campaigns == 0


def test_networks_are_counted_for_each_token_and_the_most_is_told() -> None:
    seen = sketches()

    for token, network in [(b"t1", b"n1"), (b"t1", b"n2"), (b"t1", b"n2"), (b"t2", b"n3"), (b"t1", b"n4")]:
        seen.see_token("a", token, network, NOW)

    assert seen.figures(NOW)["a"].networks_per_token_max == 3


def test_more_networks_than_are_remembered_are_told_as_sixteen() -> None:
    seen = sketches()

    for number in range(100):
        seen.see_token("a", b"t", str(number).encode(), NOW)

    assert seen.figures(NOW)["a"].networks_per_token_max == 16


def test_shared_token_is_found_in_a_flood_of_others() -> None:
    seen = sketches()

    for number in range(5_000):
        seen.see_token("a", str(number).encode(), b"n0", NOW)
        if number % 500 == 0:
            seen.see_token("a", b"shared", b"n1", NOW)
            seen.see_token("a", b"shared", f"n{number}".encode(), NOW)

    assert seen.figures(NOW)["a"].networks_per_token_max == 11


@pytest.mark.parametrize("count", [2, 3])
def test_replicas_add_up_to_one_that_saw_everything(count: int) -> None:
    chance = random.Random(count)
    replicas, whole = [sketches() for _ in range(count)], sketches()

    for number in range(600):
        now = NOW + number
        text = chance.choice([unlike(chance.randint(0, 200)), from_template(TEMPLATES[number % 2], number % 90)])
        token, network = f"t{number % 7}".encode(), f"n{chance.randint(0, 9)}".encode()
        for each in (chance.choice(replicas), whole):
            each.see_prompt("a", text, now)
            each.see_output("a", text[::-1], now)
            each.see_token("a", token, network, now)
        if number % 100 == 0:
            exchange(replicas, now)
    exchange(replicas, NOW + 600)

    found = [each.figures(NOW + 600)["a"] for each in replicas]
    assert found == [found[0]] * count
    assert found[0].prompt_duplicate_ratio == pytest.approx(
        whole.figures(NOW + 600)["a"].prompt_duplicate_ratio, abs=0.01
    )
    assert found[0].template_campaigns == whole.figures(NOW + 600)["a"].template_campaigns == 2
    assert found[0].prompts_distinct == whole.figures(NOW + 600)["a"].prompts_distinct
    assert found[0].networks_per_token_max == whole.figures(NOW + 600)["a"].networks_per_token_max == 10


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(0, 50)), max_size=60))
@settings(max_examples=30, deadline=None)
def test_texts_new_to_several_replicas_are_new_once(seen: list[tuple[int, int, int]]) -> None:
    replicas, whole = [sketches() for _ in range(3)], sketches()

    for replica, text, minute in sorted(seen, key=lambda each: each[2]):
        for each in (replicas[replica], whole):
            each.see_output("a", unlike(text), NOW + minute * MINUTE)
    exchange(replicas, NOW + 50 * MINUTE)

    expected = whole.figures(NOW + 50 * MINUTE)
    assert all(each.figures(NOW + 50 * MINUTE) == expected for each in replicas if expected)


def test_what_was_told_before_is_replaced_and_not_added() -> None:
    one, other = sketches(), sketches()

    for number in range(3):
        one.see_prompt("a", unlike(number), NOW)
        exchange([one, other], NOW)

    assert other.figures(NOW)["a"] == Figures(0.0, 0.0, 3, 0, 0)


def test_only_what_changed_is_told() -> None:
    seen = sketches()
    seen.see_prompt("a", unlike(1), NOW)
    seen.see_prompt("b", unlike(1), NOW)
    first = seen.changed(NOW)
    seen.see_prompt("b", unlike(2), NOW + 1)

    assert set(first) == {"a", "b"}
    assert set(seen.changed(NOW + 1)) == {"b"}
    assert seen.changed(NOW + 2) == {}


def test_fingerprints_that_left_the_window_are_taken_back_from_where_they_were_told() -> None:
    seen = sketches()
    for number in range(20):
        seen.see_prompt("a", unlike(number), NOW)
    before = seen.changed(NOW)["a"]
    remembered = [remembers_fingerprints(seen)]

    after_an_hour = seen.changed(NOW + HOUR)["a"]
    remembered.append(remembers_fingerprints(seen))
    after_a_day = seen.changed(NOW + 24 * HOUR)["a"]

    assert len(before) > len(after_an_hour) + 20 * 16
    assert remembered == [True, False]
    assert len(after_a_day) < 100
    assert seen.changed(NOW + 25 * HOUR) == {}


def test_restarted_replica_hears_of_its_life_before_and_counts_it_once() -> None:
    before, other = sketches(), sketches()
    for number in range(40):
        before.see_prompt("a", from_template(TEMPLATES[0], number), NOW)
    told = before.changed(NOW)

    again = sketches()
    again.absorb("life-0", "a", told["a"])
    other.absorb("life-0", "a", told["a"])
    for number in range(40, 60):
        again.see_prompt("a", from_template(TEMPLATES[0], number), NOW + MINUTE)
    exchange([other, again], NOW + MINUTE)

    assert again.figures(NOW + MINUTE) == other.figures(NOW + MINUTE)
    assert again.figures(NOW + MINUTE)["a"].template_campaigns == 1
    assert again.figures(NOW + MINUTE)["a"].prompts_distinct == pytest.approx(60, abs=6)


def test_clock_that_goes_back_a_little_stands_still() -> None:
    seen = sketches()
    seen.see_prompt("a", unlike(1), NOW)

    assert seen.see_prompt("a", unlike(1), NOW - 10 * MINUTE)
    assert seen.figures(NOW - 10 * MINUTE)["a"].prompt_duplicate_ratio == 0.5


def test_clock_that_goes_back_far_begins_anew() -> None:
    seen = sketches()
    seen.see_prompt("a", unlike(1), NOW + 365 * 24 * HOUR)

    assert not seen.see_prompt("a", unlike(1), NOW)
    assert seen.figures(NOW)["a"] == Figures(0.0, 0.0, 1, 0, 0)
    assert seen.see_prompt("a", unlike(1), NOW + MINUTE)


@pytest.mark.parametrize("now", [-1e30, 0.0, 1e30, 2.0**63])
def test_any_time_is_a_moment(now: float) -> None:
    seen = sketches()

    seen.see_prompt("a", unlike(1), now)

    assert seen.figures(now)["a"].prompts_distinct == 1


def test_replicas_are_compared_once_a_minute_and_figures_go_on_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []

    def counting(extracts: list[RecentExtract], moment: Moment) -> int:
        compared.append(len(extracts))
        return repeated_across(extracts, moment)

    monkeypatch.setattr(figures_module, "repeated_across", counting)
    one, other = sketches(), sketches()
    found = []
    for turn, text in enumerate([1, 2, 2, 2, 2]):
        now = NOW + turn * CROSSING_SECONDS / 4
        for each in (one, other):
            each.see_prompt("a", unlike(text), now)
        exchange([one, other], now)
        found.append(one.figures(now)["a"].prompt_duplicate_ratio)

    assert found == pytest.approx([1 / 2, 1 / 4, 3 / 6, 5 / 8, 8 / 10])
    assert compared == [2] * 4, "prompts and outputs, twice"


def test_what_repeats_across_replicas_is_found_later_though_nothing_more_comes() -> None:
    one, other = sketches(), sketches()
    for text in (1, 2):
        for each in (one, other):
            each.see_prompt("a", unlike(text), NOW)
        exchange([one, other], NOW)
        one.figures(NOW)

    assert one.figures(NOW)["a"].prompt_duplicate_ratio == 1 / 4
    assert one.figures(NOW + CROSSING_SECONDS)["a"].prompt_duplicate_ratio == 2 / 4


def test_partner_of_whom_nothing_is_known_has_figures_of_nothing() -> None:
    assert sketches().figures_of("a", NOW) == Figures(0.0, 0.0, 0, 0, 0)


def test_extract_of_another_replica_that_cannot_be_read_leaves_the_one_before() -> None:
    one, other = sketches(), sketches()
    one.see_prompt("a", unlike(1), NOW)
    exchange([one, other], NOW)

    with pytest.raises(ExtractInvalid):
        other.absorb("life-0", "a", b"nonsense")

    assert other.figures(NOW)["a"].prompts_distinct == 1


def test_names_beyond_any_measure_are_refused() -> None:
    one, other = sketches(), sketches()
    one.see_prompt("a", unlike(1), NOW)
    data = one.changed(NOW)["a"]

    for source, partner in (("s" * 1_000, "a"), ("s", "a" * 1_000)):
        with pytest.raises(ExtractInvalid, match="name"):
            other.absorb(source, partner, data)


def test_extracts_of_others_are_bounded_and_those_of_long_ago_go_first() -> None:
    one, other = sketches(), sketches()
    one.see_prompt("a", unlike(1), NOW)
    data = one.changed(NOW)["a"]

    for number in range(EXTRACTS + 5):
        other.absorb("life-0", f"p{number}", data)

    found = other.figures(NOW)
    assert len(found) == EXTRACTS
    assert f"p{EXTRACTS + 4}" in found
    assert "p4" not in found


def test_sources_of_one_partner_are_bounded_and_those_of_long_ago_go_first() -> None:
    other = sketches()

    for number in range(SOURCES + 5):
        one = sketches()
        one.see_prompt("a", unlike(number), NOW)
        other.absorb(f"life-{number}", "a", one.changed(NOW)["a"])

    assert other.figures(NOW)["a"].prompts_distinct == pytest.approx(SOURCES, abs=2)


def test_partners_beyond_the_most_count_as_other() -> None:
    seen = sketches()

    with capture_logs() as logs:
        for number in range(PARTNERS + 3):
            seen.see_prompt(f"p{number}", unlike(number), NOW)

    assert PARTNERS == 1_024
    assert seen.figures_of(OTHER, NOW).prompts_distinct == 3
    assert [entry["event"] for entry in logs] == ["signals_of_more_partners_than_sketches"]


def test_memory_and_extract_stay_bounded_whatever_comes() -> None:
    seen = sketches()
    for number in range(100):
        seen.see_prompt("a", unlike(number), NOW)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()

    largest = 0
    for number in range(100_000):
        now = NOW + number * 0.9  # over a day
        seen.see_token("a", number.to_bytes(8, "big"), (number % 977).to_bytes(8, "big"), now)
        if number % 20 == 0:
            seen._own["a"].see_prompt(hash((number, 1)) % 2**64, hash((number, 2)) % 2**64, seen._latest)
        if number % 20_000 == 0:
            largest = max(largest, len(seen.changed(now)["a"]))

    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    largest = max(largest, len(seen.changed(NOW + 90_000)["a"]))
    assert after - before < 500_000
    assert 30_000 < largest <= LARGEST_BYTES


def test_nothing_of_a_text_a_token_or_a_network_is_kept() -> None:
    seen = sketches()
    secret = "the password of the vault is swordfish"
    seen.see_prompt("a", secret, NOW)
    seen.see_output("a", secret, NOW)
    seen.see_token("a", b"swordfish-token", b"192.0.2.0/24", NOW)

    data = seen.changed(NOW)["a"]

    reachable = str(vars(seen)) + str([vars(each) for each in seen._own.values()])
    assert "swordfish" not in reachable
    assert b"swordfish" not in data
    assert b"192.0.2" not in data
