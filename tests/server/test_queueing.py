from __future__ import annotations

from contextlib import ExitStack

import pytest

from sluicegate.auth import Reason
from sluicegate.server.errors import CallRefused
from sluicegate.server.queueing import OVERLOADED_RETRY_SECONDS, Queue


def is_refused(queue: Queue, model: str, identity: str) -> bool:
    try:
        with queue.place(model, identity):
            return False
    except CallRefused as refused:
        return refused.reason is Reason.SERVER_OVERLOADED


def test_a_full_queue_refuses_and_says_when_to_try_again() -> None:
    queue = Queue(2, share=1)

    with ExitStack() as waiting:
        waiting.enter_context(queue.place("a", "one"))
        waiting.enter_context(queue.place("a", "two"))
        with pytest.raises(CallRefused) as caught, queue.place("a", "three"):
            pass

        assert caught.value.reason is Reason.SERVER_OVERLOADED
        assert caught.value.retry_after_seconds == OVERLOADED_RETRY_SECONDS
        assert queue.waiting("a") == 2


def test_each_model_has_a_queue_of_its_own() -> None:
    queue = Queue(1, share=1)

    with queue.place("a", "one"), queue.place("b", "one"):
        assert (queue.waiting("a"), queue.waiting("b")) == (1, 1)


def test_one_identity_holds_its_share_and_leaves_the_rest_to_others() -> None:
    queue = Queue(8, share=0.25)

    with queue.place("a", "flood"), queue.place("a", "flood"):
        assert is_refused(queue, "a", "flood")
        assert not is_refused(queue, "a", "calm")
        assert not is_refused(queue, "b", "flood")


@pytest.mark.parametrize(("limit", "share", "places"), [(1, 0.25, 1), (7, 0.25, 1), (8, 0.25, 2), (3, 1.0, 3)])
def test_a_share_is_rounded_down_but_is_one_place_at_least(limit: int, share: float, places: int) -> None:
    queue = Queue(limit, share)

    with ExitStack() as waiting:
        for _ in range(places):
            waiting.enter_context(queue.place("a", "one"))

        assert is_refused(queue, "a", "one")


def test_a_place_is_free_again_whatever_ended_the_wait() -> None:
    queue = Queue(1, share=1)

    with pytest.raises(ZeroDivisionError), queue.place("a", "one"):
        raise ZeroDivisionError

    with queue.place("a", "one"):
        assert queue.waiting("a") == 1
    assert queue.waiting("a") == 0
