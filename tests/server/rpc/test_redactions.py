"""Redaction through a real channel: what leaves where an agreement wants it, and what is told of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import grpc
import pytest
from audit_logs import entries
from harness import (
    AUDIT,
    LONG_SECONDS,
    METRICS,
    SMALL,
    TOKENIZER,
    Server,
    bearer,
    demo_plan,
    open_agreement,
    refusal,
    serving,
    until,
)
from policies import Document

from sluicegate.server.audit import Closing
from sluicegate.server.guard import Redaction
from sluicegate.v1.generation_pb2 import (
    FINISH_REASON_FLAGGED,
    FINISH_REASON_MAX_OUTPUT_TOKENS,
    FINISH_REASON_STOP,
    FINISH_REASON_STOP_SEQUENCE,
    PERSONAL_DATA_TYPE_EMAIL,
    PERSONAL_DATA_TYPE_PHONE,
    Finished,
    GenerationConfig,
    StreamOptions,
)
from sluicegate.v1.generation_service_pb2 import GenerateRequest, StreamGenerateRequest

PARTNER, PUBLIC = bearer(client_id="lab-app"), bearer()
SAID = "é Write to jane.doe@example.org, or call +44 20 7946 0123 or +44 20 7946 0124 today."
SHOWN = "é Write to [EMAIL], or call [PHONE] or [PHONE] today."
COUNTS = {PERSONAL_DATA_TYPE_EMAIL: 1, PERSONAL_DATA_TYPE_PHONE: 2}
QUOTAS = {"concurrent_streams": 100, "requests_per_minute": 10_000, "output_tokens_per_day": 10**6}


def terms(**output: str) -> Document:
    return open_agreement(models=[SMALL], quotas=QUOTAS, output={"redaction": "pii", **output})


def counts(end: Finished) -> dict[int, int]:
    return {each.type: each.count for each in end.redactions}


def asked(**config: Any) -> StreamGenerateRequest:
    return StreamGenerateRequest(
        model=SMALL, text="Hello", config=GenerationConfig(**{"max_output_tokens": 200, **config})
    )


async def streamed(server: Server, request: StreamGenerateRequest, who: Any = PARTNER) -> tuple[list[str], Finished]:
    """The texts of all messages of one candidate, and its end."""
    texts, end, used = list[str](), Finished(), 0
    async for message in server.generation.StreamGenerate(request, metadata=who, timeout=LONG_SECONDS):
        used = message.usage.output_tokens
        if message.WhichOneof("event") == "delta":
            assert not message.delta.tokens
            texts.append(message.delta.text)
        if message.WhichOneof("event") == "finished":
            end = message.finished
    assert used == end.output_tokens
    return texts, end


async def closing(server: Server, request_id: str) -> Closing:
    """The closing of a call in the audit log, once it is there."""
    found: list[Closing] = []

    async def is_there() -> bool:
        log = entries(server.directory / AUDIT["directory"])
        found.extend(entry for entry in log if isinstance(entry, Closing) and entry.call == request_id)
        return bool(found)

    await until(is_there)
    return found[0]


async def test_a_stream_has_types_in_the_place_of_personal_data(tmp_path: Path) -> None:
    async with serving(tmp_path, demo_plan(), [terms()]) as server:
        said = server.engine.say(SAID)

        texts, end = await streamed(server, asked())

        assert "".join(texts) == SHOWN
        assert (end.finish_reason, end.output_tokens, counts(end)) == (FINISH_REASON_STOP, len(said), COUNTS)


async def test_an_answer_in_one_piece_has_them_for_each_candidate(tmp_path: Path) -> None:
    async with serving(tmp_path, demo_plan(), [terms()]) as server:
        server.engine.say(SAID)
        config = GenerationConfig(max_output_tokens=200, candidate_count=2)

        answer = await server.generation.Generate(
            GenerateRequest(model=SMALL, text="Hello", config=config), metadata=PARTNER, timeout=LONG_SECONDS
        )

        assert [candidate.text for candidate in answer.candidates] == [SHOWN] * 2
        assert [counts(candidate.finished) for candidate in answer.candidates] == [COUNTS] * 2
        assert not any(candidate.tokens for candidate in answer.candidates)
        assert (await closing(server, answer.started.request_id)).redactions == {"email": 2, "phone": 4}


async def test_nothing_is_taken_out_without_the_term(tmp_path: Path) -> None:
    async with serving(tmp_path, demo_plan(), [terms()]) as server:
        server.engine.say(SAID)

        texts, end = await streamed(server, asked(), PUBLIC)

        assert ("".join(texts), counts(end)) == (SAID, {})


@pytest.mark.parametrize(
    "request_",
    [
        StreamGenerateRequest(model=SMALL, text="Hello", stream_options=StreamOptions(include_tokens=True)),
        asked(response_logprobs=True),
    ],
    ids=["tokens", "log-probabilities"],
)
async def test_what_would_tell_of_the_tokens_is_refused(tmp_path: Path, request_: StreamGenerateRequest) -> None:
    async with serving(tmp_path, demo_plan(), [terms()]) as server:
        refused = await refusal(server.generation.StreamGenerate(request_, metadata=PARTNER, timeout=LONG_SECONDS))

    assert refused.verdict == "FAILED_PRECONDITION OUTPUT_TERMS_CONFLICT"
    assert refused.facts == {"term": "redaction"}


async def test_what_was_found_and_what_was_taken_out_are_both_counted(tmp_path: Path) -> None:
    async with serving(tmp_path, demo_plan(), [terms()], metrics=METRICS) as server:
        server.engine.say(SAID)
        for who in (PARTNER, PUBLIC):
            await streamed(server, asked(), who)

        async def counted() -> tuple[float, ...]:
            metrics = await server.metrics()
            return tuple(
                metrics[f'sluicegate_pii_{name}_total{{partner="{partner}",type="phone"}}']
                for name in ("found", "redactions")
                for partner in ("example-lab", "public")
            )

        async def are_counted() -> bool:
            return await counted() == (2, 2, 2, 0)

        await until(are_counted)


@pytest.mark.parametrize("tokens", range(4, len(TOKENIZER.encode(SAID)), 5))
@pytest.mark.parametrize("is_lost", [True, False], ids=["engine lost", "step failed"])
async def test_what_is_held_back_when_a_call_breaks_off_stays_back(tmp_path: Path, tokens: int, is_lost: bool) -> None:
    async with serving(tmp_path, demo_plan(), [terms()]) as server:
        said = server.engine.say(SAID)

        def passed(count: int) -> str:
            return Redaction().feed(TOKENIZER.decode(said[:count]).decode(errors="ignore"))

        server.engine.pause_after(tokens)
        call: Any = server.generation.StreamGenerate(asked(), metadata=PARTNER, timeout=LONG_SECONDS)
        started, texts = (await call.read()).started, list[str]()

        async def read(characters: float) -> None:
            while len("".join(texts)) < characters:
                texts.append((await call.read()).delta.text)

        await read(len(passed(tokens)))
        if is_lost:
            server.engine.lose()
        else:
            server.engine.runners[SMALL].failures.append(RuntimeError())
            server.engine.resume()
        with pytest.raises(grpc.aio.AioRpcError):
            await read(math.inf)

        seen = "".join(texts)
        assert await call.code() is (grpc.StatusCode.UNAVAILABLE if is_lost else grpc.StatusCode.INTERNAL)
        assert seen in (passed(tokens), passed(tokens + 1))
        assert SHOWN.startswith(seen)
        ended = await closing(server, started.request_id)
        assert sum(ended.redactions.values()) == seen.count("[")


@pytest.mark.parametrize(
    ("said", "config", "shown", "reason"),
    [
        ("Ask jane.doe@example.org", {"max_output_tokens": -1}, "Ask [EMAIL]", FINISH_REASON_MAX_OUTPUT_TOKENS),
        ("Card 4111 1111 1111", {"max_output_tokens": -1}, "Card 4111 1111 1111", FINISH_REASON_MAX_OUTPUT_TOKENS),
        ("jane.doe@example.org\n\nBye", {"stop_sequences": ["\n\n"]}, "[EMAIL]", FINISH_REASON_STOP_SEQUENCE),
        ("jane.doe@example.org is it", {"stop_sequences": ["@"]}, "jane.doe", FINISH_REASON_STOP_SEQUENCE),
        ("jane.doe@example.org is it", {"stop_sequences": ["[EMAIL]"]}, "[EMAIL] is it", FINISH_REASON_STOP),
    ],
    ids=["complete at the limit", "unfinished at the limit", "before a stop sequence", "cut by one", "placeholder"],
)
async def test_an_end_is_a_border_and_stop_sequences_are_of_the_models_text(
    tmp_path: Path, said: str, config: dict[str, Any], shown: str, reason: int
) -> None:
    async with serving(tmp_path, demo_plan(), [terms()]) as server:
        tokens = server.engine.say(said)
        if "max_output_tokens" in config:
            config = {"max_output_tokens": len(tokens)}

        texts, end = await streamed(server, asked(**config))

        assert ("".join(texts), end.finish_reason) == (shown, reason)


async def test_flagged_text_ends_a_stream_and_what_was_held_back_stays_back(tmp_path: Path) -> None:
    async with serving(tmp_path, demo_plan(), [terms(flagged="stop")]) as server:
        server.engine.say(" Dear jane@example.org, verify your account now, or it ends.")

        texts, end = await streamed(server, asked())

        assert ("".join(texts), end.finish_reason) == (" Dear [EMAIL], verify your ", FINISH_REASON_FLAGGED)
        assert counts(end) == {PERSONAL_DATA_TYPE_EMAIL: 1}
