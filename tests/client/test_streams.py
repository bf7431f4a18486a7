from __future__ import annotations

import asyncio

import grpc
import pytest
from client_server import FakeServer, Hold, Refusal, delta, finished, started

from sluicegate.client import (
    AccessDenied,
    Cancelled,
    Client,
    DeadlineExceeded,
    Delta,
    Finished,
    FinishReason,
    Started,
    Usage,
)
from sluicegate.v1.model_service_pb2 import Model, WatchModelsResponse

WITHDRAWN = Refusal(code=grpc.StatusCode.PERMISSION_DENIED, reason="MODEL_WITHDRAWN", usage=(3, 9))


async def test_events_come_in_the_order_of_the_stream(server: FakeServer) -> None:
    server.will("StreamGenerate", [started(), delta("Once "), delta("upon", output_tokens=2), finished()])

    async with Client(server.target) as client, client.stream("gpt2-124m", "x") as stream:
        events = [event async for event in stream]

    assert [type(event) for event in events] == [Started, Delta, Delta, Finished]
    assert events[3] == Finished(0, FinishReason.STOP, None, 2)
    assert stream.started == events[0]
    assert stream.usage == Usage(prompt_tokens=3, output_tokens=2)


async def test_a_stream_that_has_ended_stays_ended(server: FakeServer) -> None:
    server.will("StreamGenerate", [started(), finished()])

    async with Client(server.target) as client, client.stream("gpt2-124m", "x") as stream:
        _ = [event async for event in stream]
        again = [event async for event in stream]
        stream.cancel()
        after_cancel = [event async for event in stream]

    assert (again, after_cancel) == ([], [])


async def test_an_error_carries_the_exact_usage_of_the_trailer(server: FakeServer) -> None:
    server.will("StreamGenerate", [started(), delta("a", output_tokens=5), WITHDRAWN])

    async with Client(server.target) as client, client.stream("gpt2-124m", "x") as stream:
        with pytest.raises(AccessDenied) as caught:
            _ = [event async for event in stream]

    assert caught.value.usage == stream.usage == Usage(prompt_tokens=3, output_tokens=9)
    assert caught.value.request_id == "0192-request"


async def test_without_the_trailer_the_last_message_s_usage_counts(server: FakeServer) -> None:
    cut = Refusal(code=grpc.StatusCode.PERMISSION_DENIED)
    server.will("StreamGenerate", [started(), delta("a", output_tokens=5), cut])

    async with Client(server.target) as client, client.stream("gpt2-124m", "x") as stream:
        with pytest.raises(AccessDenied) as caught:
            _ = [event async for event in stream]

    assert caught.value.usage == Usage(prompt_tokens=3, output_tokens=5)


async def test_a_call_begins_with_the_first_read(server: FakeServer) -> None:
    server.will("StreamGenerate", [started(), finished()])

    async with Client(server.target) as client:
        async with client.stream("gpt2-124m", "x"):
            pass
        async with client.stream("gpt2-124m", "x") as stream:
            await anext(stream)

    assert len(server.calls) == 1


async def test_leaving_the_context_ends_the_call_on_the_server_too(server: FakeServer) -> None:
    server.will("StreamGenerate", [started(), Hold()])

    async with Client(server.target) as client, client.stream("gpt2-124m", "x") as stream:
        await anext(stream)

    assert await asyncio.to_thread(server.calls[0].wait_for_end)


async def test_cancel_ends_a_read_that_waits(server: FakeServer) -> None:
    server.will("StreamGenerate", [started(), delta("a", output_tokens=5), Hold()])

    async with Client(server.target) as client, client.stream("gpt2-124m", "x") as stream:
        await anext(stream)
        await anext(stream)
        reading = asyncio.create_task(stream.__anext__())
        await asyncio.sleep(0)
        stream.cancel()
        with pytest.raises(Cancelled) as caught:
            await reading
        with pytest.raises(Cancelled):
            await anext(stream)

    assert caught.value.usage == Usage(prompt_tokens=3, output_tokens=5)
    assert await asyncio.to_thread(server.calls[0].wait_for_end)


async def test_cancel_before_the_first_read_sends_nothing(server: FakeServer) -> None:
    async with Client(server.target) as client, client.stream("gpt2-124m", "x") as stream:
        stream.cancel()
        with pytest.raises(Cancelled):
            await anext(stream)

    assert server.calls == []


async def test_a_task_that_is_cancelled_while_it_reads_ends_the_call_and_is_cancelled(server: FakeServer) -> None:
    server.will("StreamGenerate", [started(), Hold()])

    async with Client(server.target) as client:
        stream = client.stream("gpt2-124m", "x")
        await anext(stream)
        reading = asyncio.create_task(stream.__anext__())
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

        assert await asyncio.to_thread(server.calls[0].wait_for_end)


async def test_closing_the_client_ends_its_streams(server: FakeServer) -> None:
    server.will("StreamGenerate", [started(), Hold()])
    client = Client(server.target)
    stream = client.stream("gpt2-124m", "x")
    await anext(stream)
    reading = asyncio.create_task(stream.__anext__())
    await asyncio.sleep(0)

    await client.close()

    with pytest.raises(Cancelled):
        await reading


async def test_a_deadline_ends_the_stream(server: FakeServer) -> None:
    server.will("StreamGenerate", [started(), Hold()])

    async with Client(server.target) as client, client.stream("gpt2-124m", "x", timeout=0.3) as stream:
        with pytest.raises(DeadlineExceeded) as caught:
            _ = [event async for event in stream]

    assert caught.value.usage == Usage(prompt_tokens=3, output_tokens=0)


async def test_models_are_watched_until_the_caller_leaves(server: FakeServer) -> None:
    first, second = (WatchModelsResponse(models=[Model(id=name)]) for name in ("a", "b"))
    server.will("WatchModels", [first, second, Hold()])

    async with Client(server.target) as client, client.watch_models() as watch:
        seen = [(await anext(watch))[0].id, (await anext(watch))[0].id]
        watch.cancel()
        with pytest.raises(Cancelled):
            await anext(watch)

    assert seen == ["a", "b"]


async def test_a_watch_that_the_server_ends_is_over(server: FakeServer) -> None:
    server.will("WatchModels", [WatchModelsResponse(models=[Model(id="a")])])

    async with Client(server.target) as client, client.watch_models() as watch:
        seen = [models async for models in watch]

    assert len(seen) == 1
