from __future__ import annotations

from contextlib import ExitStack

import pytest

from sluicegate.auth import Reason
from sluicegate.server.errors import CallRefused
from sluicegate.server.queueing import OVERLOADED_RETRY_SECONDS, Queue


def test_a_full_queue_refuses_and_says_when_to_try_again() -> None:
    queue = Queue(2)

    with ExitStack() as waiting:
        waiting.enter_context(queue.place("a"))
        waiting.enter_context(queue.place("a"))
        with pytest.raises(CallRefused) as caught, queue.place("a"):
            pass

        assert caught.value.reason is Reason.SERVER_OVERLOADED
        assert caught.value.retry_after_seconds == OVERLOADED_RETRY_SECONDS
        assert queue.waiting("a") == 2


def test_each_model_has_a_queue_of_its_own() -> None:
    queue = Queue(1)

    with queue.place("a"), queue.place("b"):
        assert (queue.waiting("a"), queue.waiting("b")) == (1, 1)


def test_a_place_is_free_again_whatever_ended_the_wait() -> None:
    queue = Queue(1)

    with pytest.raises(ZeroDivisionError), queue.place("a"):
        raise ZeroDivisionError

    with queue.place("a"):
        assert queue.waiting("a") == 1
    assert queue.waiting("a") == 0
