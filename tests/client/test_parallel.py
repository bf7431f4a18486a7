from __future__ import annotations

import asyncio
from collections.abc import Iterator

import grpc
import pytest

from sluicegate.client.errors import QuotaExceeded
from sluicegate.client.parallel import for_each, patiently


def quota(retry_after: float | None) -> QuotaExceeded:
    return QuotaExceeded("quota", code=grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after=retry_after)


async def test_no_more_than_so_many_run_at_a_time_and_all_are_done() -> None:
    running, most, done = 0, 0, set()

    async def work(item: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        done.add(item)

    await for_each(range(20), work, 3)

    assert (most, done) == (3, set(range(20)))


async def test_the_first_error_is_raised_as_it_is_and_ends_the_others() -> None:
    ended = []

    async def work(item: int) -> None:
        if item == 2:
            raise quota(None)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append(item)
            raise

    with pytest.raises(QuotaExceeded):
        await for_each(range(9), work, 3)

    assert sorted(ended) == [0, 1]


async def test_a_quota_is_waited_for_up_to_the_limit() -> None:
    answers: Iterator[QuotaExceeded | str] = iter([quota(0.0), quota(0.01), "text"])

    async def call() -> str:
        answer = next(answers)
        if isinstance(answer, QuotaExceeded):
            raise answer
        return answer

    assert await patiently(call, 1.0) == "text"


@pytest.mark.parametrize("retry_after", [None, 1.5])
async def test_a_quota_that_asks_for_more_or_names_no_time_is_raised(retry_after: float | None) -> None:
    async def call() -> str:
        raise quota(retry_after)

    with pytest.raises(QuotaExceeded):
        await patiently(call, 1.0)
