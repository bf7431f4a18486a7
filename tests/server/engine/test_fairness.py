"""Fair shares among identities, counted in admissions and tokens."""

from __future__ import annotations

import random
from collections import Counter
from itertools import count

import pytest

from sluicegate.server.engine.fairness import TOKEN, FairQueue
from sluicegate.server.engine.messages import Sampling, Score, Submit
from sluicegate.server.engine.sequence import Request, build_request

LARGEST = 500


class Turns:
    """A queue whose requests are admitted one by one; the books are checked at every turn."""

    def __init__(self) -> None:
        self.queue = FairQueue()
        self._arrivals = count()

    def add(self, identity: str, tokens: int = 10, *, candidates: int = 1, priority: int = 0) -> Request:
        """Let a request of one prompt token and this many output tokens wait."""
        number = next(self._arrivals)
        message = Submit(
            request=str(number),
            model="m",
            prompt=[1],
            sampling=Sampling(max_output_tokens=tokens - 1),
            candidates=candidates,
            identity=identity,
            priority=priority,
        )
        request = build_request("front", message, number, 0.0, None)
        self.queue.add(request)
        return request

    def take(self) -> Request:
        request = self.queue.next()
        assert request is not None
        self.queue.admit(request)
        self.queue.check()
        return request

    def take_all(self) -> list[Request]:
        return [self.take() for _ in range(len(self.queue))]


def test_an_empty_queue_has_nobody_in_turn() -> None:
    assert FairQueue().next() is None


def test_one_identity_is_served_first_come_first_served() -> None:
    turns = Turns()
    requests = [turns.add("a", tokens) for tokens in (100, 2, 50)]

    assert turns.take_all() == requests


def test_priority_counts_inside_an_identity() -> None:
    turns = Turns()
    later, sooner, late_but_urgent = turns.add("a"), turns.add("a", priority=1), turns.add("a", priority=2)

    assert turns.take_all() == [late_but_urgent, sooner, later]


def test_priority_takes_nothing_from_another_identity() -> None:
    turns = Turns()
    for _ in range(4):
        turns.add("pushy", priority=9)
        turns.add("plain")

    assert [request.identity for request in turns.take_all()] == ["pushy", "plain"] * 4


def test_identities_with_equal_requests_take_turns_whatever_they_have_queued() -> None:
    turns = Turns()
    for _ in range(100):
        turns.add("flood")
    for _ in range(3):
        turns.add("calm")

    assert [request.identity for request in turns.take_all()[:6]] == ["flood", "calm"] * 3


def test_a_single_request_is_next_after_a_long_flood() -> None:
    turns = Turns()
    for _ in range(300):
        turns.add("flood")
    for _ in range(200):
        turns.take()

    single = turns.add("calm")

    assert turns.take() is single


def test_a_newcomer_saves_up_nothing_while_it_is_away() -> None:
    turns = Turns()
    for _ in range(200):
        turns.add("flood")
    for _ in range(100):
        turns.take()

    for _ in range(20):
        turns.add("calm")

    taken = Counter(turns.take().identity for _ in range(20))
    assert taken["flood"] >= 9


def test_shares_are_counted_in_tokens() -> None:
    turns = Turns()
    for _ in range(60):
        turns.add("large", 300)
        turns.add("small", 100)

    taken = Counter(turns.take().identity for _ in range(40))

    assert taken == {"large": 10, "small": 30}


def test_an_identity_that_asks_once_at_a_time_is_charged_for_what_it_had() -> None:
    turns = Turns()
    for _ in range(60):
        turns.add("flood", 100)
    turns.add("large", 300)
    taken: Counter[str] = Counter()

    for _ in range(40):
        request = turns.take()
        taken[request.identity] += 1
        if request.identity == "large":
            turns.add("large", 300)

    assert taken == {"large": 10, "flood": 30}


def test_each_candidate_counts() -> None:
    turns = Turns()
    for _ in range(60):
        turns.add("wide", 101, candidates=3)
        turns.add("narrow", 301)

    taken = Counter(turns.take().identity for _ in range(40))

    assert taken == {"wide": 20, "narrow": 20}


def test_a_score_counts_the_tokens_it_reads() -> None:
    request = build_request("front", Score(request="a", model="m", ids=[1] * 9), 0, 0.0, None)

    assert request.cost == 8


def test_tokens_given_back_are_not_charged() -> None:
    turns = Turns()
    for _ in range(60):
        turns.add("stops early", 400)
        turns.add("goes on", 100)
    taken: Counter[str] = Counter()

    for _ in range(40):
        request = turns.take()
        taken[request.identity] += 1
        if request.identity == "stops early":
            turns.queue.give_back(request.identity, 300)

    assert taken == {"stops early": 20, "goes on": 20}


def test_tokens_given_back_buy_no_lead() -> None:
    turns = Turns()
    turns.add("a", 400)
    turns.take()
    turns.queue.give_back("a", 400)
    turns.queue.give_back("a", 400)

    for _ in range(10):
        turns.add("b", 100)
        turns.add("a", 100)

    assert [request.identity for request in turns.take_all()[:4]] == ["b", "a", "b", "a"]


def test_a_turn_is_kept_until_its_request_is_admitted_or_gone() -> None:
    turns = Turns()
    turns.add("a", 10)
    turns.take()
    wide = turns.add("a", 10, candidates=4)

    assert turns.queue.next() is wide
    small = turns.add("new", 2)
    urgent = turns.add("a", 2, priority=5)

    assert turns.queue.next() is wide
    turns.queue.remove(wide)
    turns.queue.check()
    assert turns.take_all() == [small, urgent]


def test_a_newcomer_is_not_behind_a_flood_since_slots_stayed_empty_for_another() -> None:
    turns = Turns()
    wide = turns.add("wide", 10, candidates=8)
    assert turns.queue.next() is wide
    for _ in range(20):
        turns.add("flood", 100)
    for _ in range(300):
        turns.queue.hold(7)
    assert turns.take() is wide

    turns.take()
    newcomer = turns.add("newcomer", 100)

    assert newcomer in [turns.take() for _ in range(2)]


def test_newcomers_without_end_do_not_hold_a_request_back_for_ever() -> None:
    turns = Turns()
    turns.add("a", 100)
    turns.take()
    kept = turns.add("a", 100)
    turns.add("new", 10)
    turns_of_others = 0

    while turns.take() is not kept:
        turns_of_others += 1
        assert turns_of_others <= 2 * (TOKEN + 1) * 100 // 10  # two of them wait at any time
        turns.add(f"new {turns_of_others}", 10)

    assert turns_of_others > 0


def test_memory_does_not_grow_with_the_number_of_identities() -> None:
    turns = Turns()
    largest = 0

    for number in range(4_000):
        turns.add(f"client {number}", 2 + number % LARGEST)
        turns.take()
        largest = max(largest, turns.queue.identities)

    assert largest < 4 * TOKEN


def test_identities_that_only_come_and_go_are_forgotten() -> None:
    turns = Turns()

    for number in range(100):
        turns.queue.remove(turns.add(f"client {number}"))

    assert turns.queue.identities == 0


@pytest.mark.parametrize("seed", range(10))
def test_identities_that_always_wait_get_the_same_tokens_but_for_two_requests(seed: int) -> None:
    draw = random.Random(seed)
    turns = Turns()
    waiting: Counter[str] = Counter()
    served: Counter[str] = Counter()
    names = [f"identity {number}" for number in range(draw.randrange(2, 6))]
    largest = {name: draw.randrange(2, LARGEST) for name in names}

    for _ in range(1_000):
        for name in names:
            while waiting[name] < 2:
                turns.add(name, draw.randint(2, largest[name]))
                waiting[name] += 1
        request = turns.take()
        waiting[request.identity] -= 1
        served[request.identity] += request.cost
        if draw.random() < 0.1:
            turns.add(f"passer-by {draw.random()}", 2)
        for one in names:
            for other in names:
                assert served[one] - served[other] <= (largest[one] + largest[other]) * (1 + 1 / TOKEN)
