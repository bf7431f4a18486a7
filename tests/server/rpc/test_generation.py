"""Generation through the wire: what a stream tells, how it ends, and that every end frees its slots."""

from __future__ import annotations

import asyncio
import gc
import json
from collections import defaultdict
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1.health_pb2 import HealthCheckRequest
from harness import (
    LONG_SECONDS,
    METRICS,
    SMALL,
    TOKENIZER,
    Refusal,
    Server,
    bearer,
    connected,
    demo_plan,
    open_agreement,
    read_refusal,
    read_usage,
    refusal,
    serving,
    until,
)
from scripted_runner import count_up, target_logprob

from sluicegate.server.engine import messages as engine_messages
from sluicegate.server.engine.engines import Engines
from sluicegate.server.rpc import responses
from sluicegate.server.rpc.generation import TOKENS_AT_ONCE
from sluicegate.server.rpc.responses import plain_tokens
from sluicegate.v1 import generation_pb2
from sluicegate.v1.generation_pb2 import Delta, Finished, GenerationConfig, Started, StreamOptions, TokenIds
from sluicegate.v1.generation_service_pb2 import (
    DetokenizeRequest,
    GenerateRequest,
    ScoreRequest,
    StreamGenerateRequest,
    StreamGenerateResponse,
    TokenizeRequest,
)
from sluicegate.v1.generation_service_pb2_grpc import GenerationServiceStub

STOP = generation_pb2.FINISH_REASON_STOP
STOP_SEQUENCE = generation_pb2.FINISH_REASON_STOP_SEQUENCE
MAX_OUTPUT_TOKENS = generation_pb2.FINISH_REASON_MAX_OUTPUT_TOKENS
CONTEXT_LENGTH = generation_pb2.FINISH_REASON_CONTEXT_LENGTH
ONE_SLOT = {SMALL: {"device": "cpu", "slots": 1}}
OVERLOADED = f'sluicegate_streams_terminated_total{{cause="SERVER_OVERLOADED",model="{SMALL}"}}'
UNICODE = "Größe: 😀 naïve, 中文"


@dataclass(slots=True)
class Told:
    """A stream that was read."""

    messages: list[StreamGenerateResponse] = field(default_factory=list)
    usage: tuple[int, int] | None = None

    @property
    def started(self) -> Started:
        return self.messages[0].started

    @property
    def deltas(self) -> list[Delta]:
        return [message.delta for message in self.messages if message.HasField("delta")]

    @property
    def finished(self) -> dict[int, Finished]:
        return {
            message.finished.candidate: message.finished for message in self.messages if message.HasField("finished")
        }

    @property
    def texts(self) -> dict[int, str]:
        found: defaultdict[int, str] = defaultdict(str)
        for delta in self.deltas:
            found[delta.candidate] += delta.text
        return dict(found)


def asked(text: str = "The", *, options: StreamOptions | None = None, **config: Any) -> StreamGenerateRequest:
    return StreamGenerateRequest(
        model=SMALL, text=text, config=GenerationConfig(**config), stream_options=options or StreamOptions()
    )


def stream(server: Server, request: StreamGenerateRequest, timeout: float = LONG_SECONDS) -> Any:
    call: Any = server.generation.StreamGenerate(request, metadata=bearer(), timeout=timeout)
    return call


async def read(call: Any) -> Told:
    """A whole stream that ends with OK."""
    told = Told()
    while (message := await call.read()) is not grpc.aio.EOF:
        told.messages.append(message)
    told.usage = read_usage(dict(await call.trailing_metadata()))
    return told


async def read_output(call: Any, tokens: int) -> Told:
    """The beginning of a stream, until so many tokens are counted."""
    told = Told()
    while not told.messages or told.messages[-1].usage.output_tokens < tokens:
        message = await call.read()
        assert message is not grpc.aio.EOF
        told.messages.append(message)
    return told


async def read_to_refusal(call: Any, told: Told) -> Refusal:
    """The rest of a stream, which is broken off; its messages are added to `told`."""
    try:
        while (message := await call.read()) is not grpc.aio.EOF:
            told.messages.append(message)
    except grpc.aio.AioRpcError as error:
        return read_refusal(error)
    raise AssertionError("the stream ended with OK")


async def free(server: Server) -> None:
    """Wait until no slot is open: the engine closes them on its own thread."""

    async def is_free() -> bool:
        return not any(runner.open_slots for runner in server.engine.runners.values())

    await until(is_free)


# What a stream tells


async def test_a_stream_begins_with_what_it_runs_under(server: Server) -> None:
    server.engine.say("The end.")
    request = asked(seed=7, max_output_tokens=50)
    request.client_request_id = "mine-1"

    told = await read(stream(server, request))

    started = told.started
    assert told.messages[0].WhichOneof("event") == "started"
    assert (started.client_request_id, started.model, started.stage) == ("mine-1", SMALL, "s2")
    assert (started.seed, started.max_output_tokens, started.prompt_tokens) == (7, 50, 1)
    assert (started.weights_sha256, started.agreement) == ("00" * 32, "")
    assert len(started.request_id) == 36
    assert started.HasField("queue_duration")


@pytest.mark.parametrize("candidates", [1, 4])
async def test_every_candidate_has_one_end_and_nothing_after_it(server: Server, candidates: int) -> None:
    told = await read(stream(server, asked(candidate_count=candidates, max_output_tokens=9)))

    kinds = [message.WhichOneof("event") for message in told.messages]
    assert (kinds.count("started"), kinds.count("finished")) == (1, candidates)
    assert sorted(told.finished) == list(range(candidates))
    for candidate in range(candidates):
        own = [
            message
            for message in told.messages[1:]
            if candidate in (message.delta.candidate, message.finished.candidate)
        ]
        assert own[-1].HasField("finished")
        assert told.finished[candidate].output_tokens == 9
        assert told.finished[candidate].finish_reason == MAX_OUTPUT_TOKENS


async def test_usage_grows_on_every_message_and_stands_in_the_trailer(server: Server) -> None:
    told = await read(stream(server, asked("The committee has", candidate_count=2, max_output_tokens=30)))

    counts = [message.usage.output_tokens for message in told.messages]
    assert {message.usage.prompt_tokens for message in told.messages} == {4}
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, 60)
    assert told.usage == (4, 60)


async def test_text_comes_in_whole_characters(server: Server) -> None:
    server.engine.say(UNICODE)

    told = await read(stream(server, asked()))

    assert told.texts == {0: UNICODE}
    assert not any("\N{REPLACEMENT CHARACTER}" in delta.text for delta in told.deltas)


async def test_bytes_that_never_become_a_character_are_replaced(server: Server) -> None:
    server.engine.says = TOKENIZER.encode("ä")[:1]

    told = await read(stream(server, asked()))

    assert told.texts == {0: "\N{REPLACEMENT CHARACTER}"}
    assert told.finished[0].finish_reason == STOP


async def test_tokens_come_only_if_asked_for(server: Server) -> None:
    ids = server.engine.say(UNICODE)

    plain = await read(stream(server, asked()))
    detailed = await read(stream(server, asked(options=StreamOptions(include_tokens=True))))

    assert not any(delta.tokens for delta in plain.deltas)
    tokens = [token for delta in detailed.deltas for token in delta.tokens]
    assert [token.id for token in tokens] == ids
    assert b"".join(token.bytes for token in tokens) == UNICODE.encode()
    assert not any(token.HasField("log_probability") or token.top for token in tokens)


async def test_log_probabilities_bring_the_tokens_and_the_likeliest_ones(server: Server) -> None:
    ids = server.engine.say("The end.")

    told = await read(stream(server, asked(response_logprobs=True, logprobs=2)))

    tokens = [token for delta in told.deltas for token in delta.tokens]
    assert [token.id for token in tokens] == ids
    assert [token.log_probability for token in tokens] == [target_logprob(token) for token in ids]
    assert {tuple(top.id for top in token.top) for token in tokens} == {(0, 1)}
    assert {top.bytes for token in tokens for top in token.top} == {b"!", b'"'}


async def test_log_probabilities_may_come_without_tokens_nobody_asked_to_leave_out(server: Server) -> None:
    server.engine.say("The end.")
    options = StreamOptions(include_tokens=False)

    told = await read(stream(server, asked(options=options, response_logprobs=True)))

    assert all(token.HasField("log_probability") and not token.top for delta in told.deltas for token in delta.tokens)
    assert sum(len(delta.tokens) for delta in told.deltas) == 3


@pytest.mark.parametrize("cut", ["end", "he e", "e end", "."])
async def test_a_stop_sequence_ends_the_text_before_it_wherever_tokens_are_cut(server: Server, cut: str) -> None:
    text = "This is the end. And more that nobody reads."
    server.engine.say(text)

    told = await read(stream(server, asked(stop_sequences=["no such text", cut])))

    assert told.texts == {0: text[: text.index(cut)]}
    assert told.finished[0].finish_reason == STOP_SEQUENCE
    assert told.finished[0].stop_sequence == cut
    await free(server)


async def test_a_half_stop_sequence_is_released_at_the_end(server: Server) -> None:
    server.engine.say("This is the en")

    told = await read(stream(server, asked(stop_sequences=["end of all"])))

    assert told.texts == {0: "This is the en"}
    assert told.finished[0].finish_reason == STOP


async def test_a_stop_token_ends_the_candidate_and_is_not_returned(server: Server) -> None:
    ids = server.engine.say("This is the end.")

    told = await read(stream(server, asked(stop_token_ids=[ids[2]])))

    assert told.texts == {0: "This is"}
    assert told.finished[0].finish_reason == STOP
    assert told.finished[0].output_tokens == 2


async def test_output_ends_where_the_context_is_full(server: Server) -> None:
    request = StreamGenerateRequest(model=SMALL, token_ids=TokenIds(ids=[5] * 1_020))

    told = await read(stream(server, request))

    assert told.started.max_output_tokens == 4
    assert told.usage == (1_020, 4)


async def test_a_limit_of_the_policy_shortens_the_output(server: Server) -> None:
    told = await read(stream(server, asked(max_output_tokens=900)))

    assert told.started.max_output_tokens == 256
    assert told.finished[0].finish_reason == MAX_OUTPUT_TOKENS
    assert told.usage == (1, 256)


async def test_without_a_limit_of_its_own_a_call_gets_128_tokens(server: Server) -> None:
    told = await read(stream(server, asked()))

    assert told.usage == (1, 128)


async def test_a_message_waits_for_its_tokens(server: Server) -> None:
    options = StreamOptions(max_delay=Duration(seconds=10), min_tokens_per_message=8)

    told = await read(stream(server, asked(options=options, max_output_tokens=20)))

    counts = [message.usage.output_tokens for message in told.messages if message.HasField("delta")]
    steps = [after - before for before, after in zip([0, *counts], counts, strict=False)]
    assert all(step >= 8 for step in steps[:-1])
    assert sum(steps) == 20


async def test_a_message_waits_no_longer_than_its_delay(server: Server) -> None:
    server.engine.pause_after(3)
    options = StreamOptions(max_delay=Duration(nanos=50_000_000), min_tokens_per_message=100)

    told = await read_output(stream(server, asked(options=options)), 3)

    assert told.messages[-1].usage.output_tokens == 3


async def test_without_a_delay_each_token_leaves_at_once(server: Server) -> None:
    server.engine.pause_after(1)

    told = await read_output(stream(server, asked(options=StreamOptions(min_tokens_per_message=100))), 1)

    assert len(told.deltas) == 1


async def test_the_whole_generation_says_what_the_stream_says(server: Server) -> None:
    server.engine.say(UNICODE)
    config = GenerationConfig(candidate_count=2, seed=3)
    request = GenerateRequest(model=SMALL, text="The", config=config, include_tokens=True, client_request_id="x")

    call: Any = server.generation.Generate(request, metadata=bearer(), timeout=LONG_SECONDS)
    answer = await call

    ids = TOKENIZER.encode(UNICODE)
    assert [candidate.text for candidate in answer.candidates] == [UNICODE, UNICODE]
    assert [[token.id for token in candidate.tokens] for candidate in answer.candidates] == [ids, ids]
    assert [candidate.finished.candidate for candidate in answer.candidates] == [0, 1]
    assert {candidate.finished.finish_reason for candidate in answer.candidates} == {STOP}
    assert (answer.started.seed, answer.started.client_request_id) == (3, "x")
    assert (answer.usage.prompt_tokens, answer.usage.output_tokens) == (1, 2 * len(ids))
    assert read_usage(dict(await call.trailing_metadata())) == (1, 2 * len(ids))


async def test_more_candidates_than_slots_are_refused_as_a_field(server: Server) -> None:
    refused = await refusal(stream(server, asked(candidate_count=5)))

    assert refused.verdict == "INVALID_ARGUMENT REQUEST_INVALID"
    assert refused.violations == {"config.candidate_count": "between 1 and 4, the model's slots"}


# How a stream is broken off


async def test_a_cancelled_stream_frees_its_slot(tmp_path: Path) -> None:
    async with serving(tmp_path, models=ONE_SLOT, metrics=METRICS) as server:
        server.engine.pause_after(2)
        first = stream(server, asked())
        await read_output(first, 2)

        first.cancel()
        await active(server, 0)
        server.engine.resume()

        assert (await read(stream(server, asked(max_output_tokens=5)))).usage == (1, 5)
        await free(server)
        samples = await server.metrics()
        assert samples[f'sluicegate_streams_terminated_total{{cause="CANCELLED",model="{SMALL}"}}'] == 1
        assert samples[f'sluicegate_tokens_total{{direction="output",model="{SMALL}",partner="public"}}'] == 2 + 5


async def test_a_full_queue_turns_calls_away_at_once_and_a_cancelled_one_gives_its_place_up(tmp_path: Path) -> None:
    async with serving(tmp_path, models=ONE_SLOT, limits={"queued_requests": 1}, metrics=METRICS) as server:
        server.engine.pause_after(1)
        running = stream(server, asked(max_output_tokens=5))
        await read_output(running, 1)
        waiting = stream(server, asked(max_output_tokens=5))
        await active(server, 2)

        refused = await refusal(stream(server, asked()))

        assert refused.verdict == "UNAVAILABLE SERVER_OVERLOADED"
        assert (refused.retry_after, refused.pushback) == (1.0, "1000")
        assert refused.details == ("ErrorInfo", "RetryInfo", "RequestInfo")
        assert refused.usage is None
        waiting.cancel()
        await active(server, 1)
        next_one = stream(server, asked(max_output_tokens=5))
        await active(server, 2)
        server.engine.resume()
        assert (await read(next_one)).usage == (1, 5)


async def test_a_score_waits_in_the_same_queue(tmp_path: Path) -> None:
    async with serving(tmp_path, models=ONE_SLOT, limits={"queued_requests": 1}, metrics=METRICS) as server:
        server.engine.pause_after(1)
        await read_output(stream(server, asked(max_output_tokens=5)), 1)
        waiting = stream(server, asked(max_output_tokens=5))
        await active(server, 2)

        refused = await refusal(score(server, "The end."))

        assert refused.verdict == "UNAVAILABLE SERVER_OVERLOADED"
        server.engine.resume()
        assert (await read(waiting)).usage == (1, 5)


async def test_a_score_that_runs_has_left_its_place_in_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine_score, running, go_on = Engines.score, asyncio.Semaphore(0), asyncio.Event()

    async def run(self: Engines, message: engine_messages.Score, *, on_started: Callable[[], None]) -> Any:
        on_started()
        running.release()
        await go_on.wait()
        return await engine_score(self, message)

    monkeypatch.setattr(Engines, "score", run)
    async with serving(tmp_path, limits={"queued_requests": 1}) as server:
        answers = []
        for _ in range(3):
            answers.append(asyncio.ensure_future(score(server, "The end.")))
            await running.acquire()
        go_on.set()

        assert [len((await answer).tokens) for answer in answers] == [3] * 3


async def test_a_call_that_was_turned_away_is_tried_again_by_grpc_itself(tmp_path: Path) -> None:
    policy = {"maxAttempts": 2, "initialBackoff": "0.01s", "maxBackoff": "0.01s", "backoffMultiplier": 1}
    policy["retryableStatusCodes"] = ["UNAVAILABLE"]
    config = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})
    options = [("grpc.enable_retries", 1), ("grpc.service_config", config)]
    async with serving(tmp_path, models=ONE_SLOT, limits={"queued_requests": 1}, metrics=METRICS) as server:
        server.engine.pause_after(1)
        await read_output(stream(server, asked(max_output_tokens=5)), 1)
        waiting = stream(server, asked(max_output_tokens=5))
        await active(server, 2)

        async with connected(server.target, options=options) as channel:
            call: Any = GenerationServiceStub(channel).StreamGenerate(
                asked(max_output_tokens=5), metadata=bearer(), timeout=LONG_SECONDS
            )
            reading = asyncio.create_task(read(call))
            await counted(server, OVERLOADED, 1)
            server.engine.resume()
            told = await reading

        # The pushback was waited for, and the second attempt was served: nothing had committed the call before.
        assert told.usage == (1, 5)
        assert (await read(waiting)).usage == (1, 5)


async def test_a_call_in_the_queue_ends_with_its_time(tmp_path: Path) -> None:
    async with serving(tmp_path, limits={"call_seconds": 1e-6}) as server:
        refused = await refusal(stream(server, asked()))

        assert refused.verdict == "DEADLINE_EXCEEDED DEADLINE_EXCEEDED"
        assert refused.usage is None
        assert (await refusal(score(server, "The end."))).verdict == "DEADLINE_EXCEEDED DEADLINE_EXCEEDED"


async def test_a_running_call_ends_with_its_time_and_tells_its_usage(tmp_path: Path) -> None:
    seconds = 0.3
    async with serving(tmp_path, limits={"call_seconds": seconds}) as server:
        server.engine.pause_after(3)
        call = stream(server, asked())
        await read_output(call, 3)

        await asyncio.sleep(seconds)  # the engine reads the real clock
        server.engine.resume()

        refused = await refusal(call)
        assert refused.verdict == "DEADLINE_EXCEEDED DEADLINE_EXCEEDED"
        assert refused.usage == (1, 4)
        await free(server)


async def test_a_deadline_that_comes_before_the_slots_says_that_nothing_had_started(tmp_path: Path) -> None:
    async with serving(tmp_path, limits={"call_seconds": 1e-6}) as server:
        refused = await refusal(stream(server, asked()))

    assert refused.verdict == "DEADLINE_EXCEEDED DEADLINE_EXCEEDED"
    assert refused.facts == {"started": "false"}


async def test_a_deadline_of_the_client_frees_the_slot(tmp_path: Path) -> None:
    async with serving(tmp_path, models=ONE_SLOT, metrics=METRICS) as server:
        server.engine.pause_after(2)
        call = stream(server, asked(), timeout=0.5)
        await read_output(call, 2)

        code = await call.code()
        await active(server, 0)
        server.engine.resume()

        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert (await read(stream(server, asked(max_output_tokens=5)))).usage == (1, 5)


@pytest.mark.parametrize(
    "options",
    [StreamOptions(), StreamOptions(max_delay=Duration(seconds=10), min_tokens_per_message=100)],
    ids=["at once", "gathered"],
)
async def test_a_lost_engine_ends_its_streams_with_all_that_it_gave(tmp_path: Path, options: StreamOptions) -> None:
    async with serving(tmp_path) as server:
        server.engine.pause_after(3)
        call = stream(server, asked(options=options))
        told = await read_output(call, 0 if options.min_tokens_per_message else 3)
        await stepped(server, 4)  # it stands still in the fourth, and dies after it

        server.engine.lose()

        refused = await read_to_refusal(call, told)
        assert refused.verdict == "UNAVAILABLE ENGINE_LOST"
        assert (refused.retry_after, refused.pushback) == (2.0, "2000")
        assert refused.usage == (1, 4)
        assert told.messages[-1].usage.output_tokens == 4
        assert told.texts[0].encode() == TOKENIZER.decode([count_up(0, position, (540,)) for position in range(1, 5)])


async def test_an_answer_whose_tokens_are_charged_is_not_asked_for_again_by_grpc(tmp_path: Path) -> None:
    """It may be of a status without headers before it, and would be charged again."""
    policy = {"maxAttempts": 3, "initialBackoff": "0.01s", "maxBackoff": "0.01s", "backoffMultiplier": 1}
    method = {"name": [{}], "retryPolicy": {**policy, "retryableStatusCodes": ["UNAVAILABLE"]}}
    retries = {"grpc.enable_retries": 1, "grpc.service_config": json.dumps({"methodConfig": [method]})}
    request = GenerateRequest(model=SMALL, text="The", config=GenerationConfig(max_output_tokens=50))
    async with (
        serving(tmp_path, metrics=METRICS) as server,
        connected(server.target, options=[*retries.items()]) as own,
    ):
        server.engine.pause_after(3)
        stub: Any = GenerationServiceStub(own)
        reading = asyncio.create_task(refusal(stub.Generate(request, metadata=bearer(), timeout=LONG_SECONDS)))
        await stepped(server, 4)

        server.engine.lose()

        refused = await reading
        started = 'grpc_server_started_total{grpc_method="Generate",grpc_service="sluicegate.v1.GenerationService"}'
        assert (refused.verdict, refused.usage) == ("UNAVAILABLE ENGINE_LOST", (1, 4))
        assert (await server.metrics())[started] == 1


async def test_calls_are_refused_until_the_engine_is_back(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        watch = server.health.Watch(HealthCheckRequest(service=f"models/{SMALL}"), metadata=bearer())
        states = [(await watch.read()).status]

        server.engine.lose()

        states.append((await watch.read()).status)
        refused = await refusal(stream(server, asked()))
        states.append((await watch.read()).status)
        assert states == [1, 2, 1]
        assert refused.verdict == "UNAVAILABLE MODEL_NOT_READY"
        assert (await read(stream(server, asked(max_output_tokens=5)))).usage == (1, 5)


async def test_a_step_that_fails_is_a_fault_of_the_server_and_the_next_call_is_served(
    server: Server, logs: list[MutableMapping[str, Any]]
) -> None:
    await read(stream(server, asked(max_output_tokens=1)))
    server.engine.runners[SMALL].failures.append(RuntimeError("a secret of the device"))

    refused = await refusal(stream(server, asked()))

    assert refused.verdict == "INTERNAL INTERNAL"
    assert refused.facts == {}
    assert [entry["request_id"] for entry in logs if entry.get("reason") == "INTERNAL"] == [refused.request_id]
    assert (await read(stream(server, asked(max_output_tokens=5)))).usage == (1, 5)


async def test_a_reader_that_stalls_is_cut_and_its_slots_are_freed(tmp_path: Path) -> None:
    plan = demo_plan()
    plan["public"]["quotas"]["output_tokens_per_call"] = 1_000
    window = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_535)]  # else it grows without a reader
    limits = {"stalled_reader_seconds": 1.0}  # the engine comes to its pause meanwhile
    async with serving(tmp_path, plan, limits=limits, metrics=METRICS, channel_options=window) as server:
        server.engine.pause_after(900)  # 1 MB: more than all buffers on the way hold
        call = stream(server, asked(candidate_count=4, max_output_tokens=1_000, response_logprobs=True, logprobs=20))

        await counted(server, f'sluicegate_streams_terminated_total{{cause="READER_STALLED",model="{SMALL}"}}', 1)

        assert server.engine.runners[SMALL].open_slots
        server.engine.resume()
        await free(server)
        refused = await refusal(call)
        assert refused.verdict == "ABORTED READER_STALLED"
        assert refused.usage is not None
        assert refused.usage[1] <= 4 * 900
        assert (await read(stream(server, asked(max_output_tokens=5)))).usage == (1, 5)


@pytest.mark.parametrize("window", [0, 5])
async def test_a_reader_that_takes_not_even_the_first_message_is_told_why_it_was_cut(
    tmp_path: Path, window: int
) -> None:
    options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", window)]  # less than one message
    limits = {"stalled_reader_seconds": 0.05}
    async with serving(tmp_path, limits=limits, metrics=METRICS, channel_options=options) as server:
        call = stream(server, asked())

        await counted(server, f'sluicegate_streams_terminated_total{{cause="READER_STALLED",model="{SMALL}"}}', 1)

        await free(server)
        told = Told()
        refused = await read_to_refusal(call, told)
        assert refused.verdict == "ABORTED READER_STALLED"
        assert refused.usage == (1, 0)
        assert [message.WhichOneof("event") for message in told.messages] == ["started"]


async def test_a_reader_is_not_cut_while_it_is_the_engine_that_is_waited_for(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.engine.pause_after(3)
    call = stream(server, asked(max_output_tokens=10))
    await read_output(call, 3)
    loop = asyncio.get_running_loop()
    now = loop.time

    monkeypatch.setattr(loop, "time", lambda: now() + 120)  # longer than a reader is waited for
    server.engine.resume()

    assert (await read(call)).usage == (1, 10)


async def test_a_client_that_cancels_before_its_first_message_has_left_is_gone_without_a_word(
    tmp_path: Path, logs: list[MutableMapping[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 0)]
    async with serving(tmp_path, metrics=METRICS, channel_options=options) as server:
        call = stream(server, asked())
        await stepped(server, 100)

        call.cancel()

        await counted(server, f'sluicegate_streams_terminated_total{{cause="CANCELLED",model="{SMALL}"}}', 1)
        await free(server)
    gc.collect()
    assert [entry for entry in logs if entry["event"] == "call_failed"] == []
    assert caplog.records == []


# Scores and tokens


async def test_a_score_has_every_token_of_the_text(server: Server) -> None:
    ids = TOKENIZER.encode("The end.")

    call = score(server, "The end.", logprobs=1)
    answer = await call

    assert [token.id for token in answer.tokens] == ids
    assert [token.log_probability for token in answer.tokens] == [target_logprob(token) for token in ids]
    assert answer.total_log_probability == sum(target_logprob(token) for token in ids)
    assert {tuple(top.id for top in token.top) for token in answer.tokens} == {(0,)}
    assert (answer.usage.prompt_tokens, answer.usage.output_tokens) == (3, 0)
    assert (answer.started.seed, answer.started.max_output_tokens) == (0, 0)
    assert not answer.started.HasField("queue_duration")
    assert read_usage(dict(await call.trailing_metadata())) == (3, 0)


async def test_text_goes_to_tokens_and_back(server: Server) -> None:
    tokenized = await server.generation.Tokenize(
        TokenizeRequest(model=SMALL, text=UNICODE), metadata=bearer(), timeout=LONG_SECONDS
    )
    ids = [token.id for token in tokenized.tokens]

    back = await server.generation.Detokenize(
        DetokenizeRequest(model=SMALL, token_ids=ids), metadata=bearer(), timeout=LONG_SECONDS
    )

    assert b"".join(token.bytes for token in tokenized.tokens) == UNICODE.encode()
    assert (back.text, back.bytes) == (UNICODE, UNICODE.encode())


async def test_half_a_character_is_shown_replaced_and_given_as_its_bytes(server: Server) -> None:
    ids = TOKENIZER.encode("ä")[:1]

    back = await server.generation.Detokenize(
        DetokenizeRequest(model=SMALL, token_ids=ids), metadata=bearer(), timeout=LONG_SECONDS
    )

    assert (back.text, back.bytes) == ("\N{REPLACEMENT CHARACTER}", b"\xc3")


async def test_a_long_text_is_tokenized_whole(server: Server) -> None:
    text = "The committee has met. " * 2_000

    tokenized = await server.generation.Tokenize(
        TokenizeRequest(model=SMALL, text=text), metadata=bearer(), timeout=LONG_SECONDS
    )

    assert b"".join(token.bytes for token in tokenized.tokens) == text.encode()


async def test_a_partner_runs_under_its_agreement(tmp_path: Path) -> None:
    models = {"gpt2-774m": {"device": "cpu", "slots": 2}}
    async with serving(tmp_path, agreements=[open_agreement()], models=models) as server:
        request = StreamGenerateRequest(model="gpt2-774m", text="The", config=GenerationConfig(max_output_tokens=600))
        call: Any = server.generation.StreamGenerate(
            request, metadata=bearer(client_id="lab-app"), timeout=LONG_SECONDS
        )

        told = await read(call)

        assert told.started.agreement == "agr-example-lab"
        assert told.usage == (1, 512)


def score(server: Server, text: str, **members: Any) -> Any:
    request = ScoreRequest(model=SMALL, text=text, **members)
    call: Any = server.generation.Score(request, metadata=bearer(), timeout=LONG_SECONDS)
    return call


async def active(server: Server, calls: int) -> None:
    """Wait until so many generations are under way, queued ones included."""
    await counted(server, f'sluicegate_streams_active{{model="{SMALL}",partner="public"}}', calls)


async def stepped(server: Server, steps: int) -> None:
    """Wait until the engine has made so many steps for a stream, so that its first message is on its way."""

    async def has_stepped() -> bool:
        return len(server.engine.runners[SMALL].steps) >= steps

    await until(has_stepped)


async def counted(server: Server, sample: str, value: float) -> None:
    """Wait until a metric has this value."""

    async def is_counted() -> bool:
        return (await server.metrics())[sample] == value

    await until(is_counted)


async def test_a_long_text_s_tokens_leave_others_their_turns(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    turns, turns_at_slices = 0, list[int]()

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    def watched(ids: Any, tokenizer: Any) -> Any:
        turns_at_slices.append(turns)
        return plain_tokens(ids, tokenizer)

    monkeypatch.setattr(responses, "plain_tokens", watched)
    beside = asyncio.create_task(others())
    text = "\n" * 60_000
    request = TokenizeRequest(model=SMALL, text=text)
    answer = await server.generation.Tokenize(request, metadata=bearer(), timeout=LONG_SECONDS)
    beside.cancel()

    assert b"".join(token.bytes for token in answer.tokens) == text.encode()
    assert len(turns_at_slices) == -(-len(answer.tokens) // TOKENS_AT_ONCE) > 1
    assert len(set(turns_at_slices)) == len(turns_at_slices)
