"""DetectText through the wire: what is found, in whose text, and what nobody learns by it."""

from __future__ import annotations

from collections.abc import AsyncIterator, MutableMapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from harness import LONG_SECONDS, METRICS, SMALL, TOKENIZER, Server, bearer, demo_plan, open_agreement, refusal, serving
from watermarks import marked_text, write_keys

from sluicegate.server.watermark import WatermarkKey, read_keys
from sluicegate.v1.provenance_service_pb2 import (
    VERDICT_INSUFFICIENT_TEXT,
    VERDICT_NOT_FOUND,
    VERDICT_UNSUPPORTED,
    VERDICT_WATERMARKED,
    DetectTextRequest,
    DetectTextResponse,
)
from sluicegate.v1.provenance_service_pb2_grpc import ProvenanceServiceStub

pytestmark = pytest.mark.asyncio(loop_scope="module")

STRANGER, PARTNER = bearer(client_id="some-app"), bearer(client_id="lab-app")
KEYLESS, PARTNERS_OWN = "gpt2-355m", "gpt2-774m"
MODELS = {model: {"device": "cpu", "slots": 1} for model in (SMALL, KEYLESS, PARTNERS_OWN)}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """The small model has keys of two epochs, the partners' one, another public one none."""
    directory = tmp_path_factory.mktemp("provenance")
    write_keys(directory / "keys", SMALL, SMALL, PARTNERS_OWN)
    async with serving(
        directory,
        demo_plan(),
        [open_agreement()],
        models=MODELS,
        watermark={"keys": "keys"},
        limits={"detections_per_minute": 10_000},
        metrics=METRICS,
    ) as server:
        yield server


def key_of(server: Server, model: str, epoch: int) -> WatermarkKey:
    [key] = [key for key in read_keys(server.directory / "keys") if (key.model, key.epoch) == (model, epoch)]
    return key


@cache
def words() -> tuple[int, ...]:
    """Tokens that are words with a space before them: text made of them has these tokens and no others."""
    texts = {token: TOKENIZER.token_bytes(token) for token in range(TOKENIZER.size)}
    return tuple(
        token
        for token, text in texts.items()
        if text[:1] == b" " and text[1:].isalpha() and TOKENIZER.encode(text.decode()) == [token]
    )


def text_marked_by(key: WatermarkKey, tokens: int = 150) -> str:
    return TOKENIZER.decode(marked_text(key.scheme(), tokens, words())).decode()


def plain_text(tokens: int = 150) -> str:
    return text_marked_by(WatermarkKey("elsewhere", 1, bytes(32)), tokens)


async def detect(server: Server, text: str, model: str = "", who: Any = STRANGER) -> DetectTextResponse:
    stub: Any = ProvenanceServiceStub(server.channel)
    request = DetectTextRequest(text=text, model=model)
    answer: DetectTextResponse = await stub.DetectText(request, metadata=who, timeout=LONG_SECONDS)
    return answer


def refused(server: Server, model: str, who: Any = STRANGER) -> Any:
    stub: Any = ProvenanceServiceStub(server.channel)
    return refusal(stub.DetectText(DetectTextRequest(text="a", model=model), metadata=who, timeout=LONG_SECONDS))


@pytest.mark.parametrize("epoch", [1, 2])
async def test_a_marked_text_is_found_with_its_model_and_epoch(server: Server, epoch: int) -> None:
    key = key_of(server, SMALL, epoch)

    answer = await detect(server, text_marked_by(key), SMALL)

    found, other = answer.checks
    assert answer.verdict == found.verdict == VERDICT_WATERMARKED
    assert (found.model, found.epoch, found.watermark_id) == (SMALL, epoch, key.id)
    assert found.p_value < 1e-6
    assert (other.epoch, other.verdict) == (3 - epoch, VERDICT_NOT_FOUND)
    assert other.p_value > answer.false_positive_rate == 0.001
    assert 140 <= found.scored_tokens == other.scored_tokens <= 146  # two n-grams may share a state


async def test_text_without_a_mark_is_not_found(server: Server) -> None:
    answer = await detect(server, plain_text(), SMALL)

    assert answer.verdict == VERDICT_NOT_FOUND
    assert [check.verdict for check in answer.checks] == [VERDICT_NOT_FOUND] * 2
    assert answer.checks[0].p_value <= answer.checks[1].p_value


@pytest.mark.parametrize(("tokens", "is_enough"), [(49, False), (50, True)])
async def test_fifty_tokens_are_the_least_to_judge_by(server: Server, tokens: int, is_enough: bool) -> None:
    answer = await detect(server, plain_text(tokens), SMALL)

    assert answer.verdict == (VERDICT_NOT_FOUND if is_enough else VERDICT_INSUFFICIENT_TEXT)
    assert all(check.HasField("p_value") for check in answer.checks)


async def test_a_text_that_only_repeats_itself_is_too_little(server: Server) -> None:
    assert (await detect(server, " the cat" * 400, SMALL)).verdict == VERDICT_INSUFFICIENT_TEXT


async def test_a_model_without_a_key_is_unsupported(server: Server) -> None:
    [check] = (await detect(server, plain_text(), KEYLESS)).checks

    assert check.verdict == VERDICT_UNSUPPORTED
    assert (check.epoch, check.watermark_id, check.HasField("p_value")) == (0, "", False)


async def test_all_models_that_the_caller_may_know_of_are_looked_for(server: Server) -> None:
    text = text_marked_by(key_of(server, PARTNERS_OWN, 1))

    stranger = await detect(server, text)
    partner = await detect(server, text, who=PARTNER)

    assert stranger.verdict == VERDICT_NOT_FOUND
    assert [check.model for check in stranger.checks] == [SMALL, SMALL, KEYLESS]
    assert partner.verdict == VERDICT_WATERMARKED
    assert [check.model for check in partner.checks] == [PARTNERS_OWN, SMALL, SMALL, KEYLESS]


async def test_each_p_value_is_corrected_for_the_keys_that_were_tried(server: Server) -> None:
    text = plain_text()

    partner = {check.watermark_id: check.p_value for check in (await detect(server, text, who=PARTNER)).checks}
    alone = (await detect(server, text, PARTNERS_OWN, who=PARTNER)).checks[0]

    assert partner[alone.watermark_id] == pytest.approx(1 - (1 - alone.p_value) ** 3)


async def test_a_model_that_is_closed_and_one_that_does_not_exist_are_refused_alike(server: Server) -> None:
    closed, unknown = await refused(server, PARTNERS_OWN), await refused(server, "gpt2-unheard-of")

    assert closed.verdict == unknown.verdict == "PERMISSION_DENIED MODEL_NOT_RELEASED"
    assert (closed.text, closed.facts) == (unknown.text, unknown.facts)


async def test_the_scope_is_needed(server: Server) -> None:
    outcome = await refused(server, SMALL, bearer(scope="generate:gpt2-124m"))

    assert outcome.verdict == "PERMISSION_DENIED SCOPE_MISSING"
    assert outcome.facts == {"required_scope": "detect:watermark"}


async def test_checks_are_counted_and_the_text_is_nowhere(server: Server, logs: list[MutableMapping[str, Any]]) -> None:
    before = await server.metrics()
    text = text_marked_by(key_of(server, SMALL, 1)) + " nobody-may-keep-this"

    await detect(server, text)

    after = await server.metrics()
    grown = {name: after[name] - before[name] for name in after if name.startswith("sluicegate_watermark_checks")}
    assert {name: value for name, value in grown.items() if value} == {
        f'sluicegate_watermark_checks_total{{model="{SMALL}",verdict="watermarked"}}': 1,
        f'sluicegate_watermark_checks_total{{model="{SMALL}",verdict="not_found"}}': 1,
        f'sluicegate_watermark_checks_total{{model="{KEYLESS}",verdict="unsupported"}}': 1,
    }
    assert "nobody-may-keep-this" not in str(logs)


async def test_each_client_has_a_limit_of_its_own(tmp_path: Path) -> None:
    write_keys(tmp_path / "keys", SMALL, PARTNERS_OWN)
    limits = {"detections_per_minute": 2}

    async with serving(tmp_path, watermark={"keys": "keys"}, limits=limits) as server:
        for _ in range(2):
            await detect(server, "a", SMALL)
        over = await refused(server, SMALL)
        closed = await refused(server, PARTNERS_OWN)
        await detect(server, "a", SMALL, PARTNER)
        server.clock.now += 30
        await detect(server, "a", SMALL)

    assert over.verdict == "RESOURCE_EXHAUSTED REQUEST_RATE_LIMIT"
    assert over.facts == {"limit": "2"}
    assert over.retry_after == pytest.approx(30)
    assert closed.verdict == "PERMISSION_DENIED MODEL_NOT_RELEASED"


async def test_a_server_without_keys_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        answer = await detect(server, plain_text())

    assert answer.verdict == VERDICT_UNSUPPORTED
    assert {check.verdict for check in answer.checks} == {VERDICT_UNSUPPORTED}
