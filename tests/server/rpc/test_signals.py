"""Signals of misuse, through a real channel: what is counted, what ends a stream, and what callers see of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from harness import LONG_SECONDS, METRICS, SMALL, TOKENIZER, Server, bearer, demo_plan, open_agreement, serving, until
from policies import Document

from sluicegate.server.errors import SettingsError
from sluicegate.v1.generation_pb2 import FinishReason, GenerationConfig, StreamOptions
from sluicegate.v1.generation_service_pb2 import GenerateRequest, GenerateResponse, StreamGenerateRequest

PARTNER = bearer(client_id="lab-app")
PERSONAL = " Write to jane.doe@example.org or call +44 20 7946 0123 today."
FLAGGED = " Dear customer, please verify your account now, or it ends."
QUOTAS = {"concurrent_streams": 100, "requests_per_minute": 10_000, "output_tokens_per_day": 10**6}


def terms(flagged: str = "count") -> Document:
    return open_agreement(models=[SMALL], quotas=QUOTAS, output={"flagged": flagged})


async def generate(server: Server, prompt: str = "Hello", tokens: int = 100, **more: Any) -> GenerateResponse:
    config = GenerationConfig(max_output_tokens=tokens, **more.pop("config", {}))
    request = GenerateRequest(model=SMALL, text=prompt, config=config, **more)
    return await server.generation.Generate(request, metadata=PARTNER, timeout=LONG_SECONDS)


async def counted(server: Server, name: str, expected: float, **labels: str) -> None:
    """Wait until a metric of the partner has this value: what counts is a thread of its own."""
    shown = ",".join(f'{key}="{value}"' for key, value in sorted({"partner": "example-lab", **labels}.items()))

    async def holds() -> bool:
        return (await server.metrics())[f"{name}{{{shown}}}"] == expected

    await until(holds)


async def test_personal_data_in_an_output_is_counted_and_stays_in_it(tmp_path: Path) -> None:
    async with serving(tmp_path, demo_plan(), [terms()], metrics=METRICS) as server:
        server.engine.say(PERSONAL)

        answer = await generate(server)

        assert answer.candidates[0].text == PERSONAL
        await counted(server, "sluicegate_pii_found_total", 1, type="email")
        await counted(server, "sluicegate_pii_found_total", 1, type="phone")
        await counted(server, "sluicegate_pii_found_total", 0, type="card")


@pytest.mark.parametrize("tokens", range(8, len(TOKENIZER.encode(PERSONAL)), 7))
async def test_what_an_output_had_when_its_caller_left_is_counted(tmp_path: Path, tokens: int) -> None:
    text = PERSONAL.replace(" Write to", "")
    async with serving(tmp_path, demo_plan(), [terms()], metrics=METRICS) as server:
        ids = server.engine.say(text)
        whole = TOKENIZER.decode(ids[:tokens]).decode(errors="ignore")
        server.engine.pause_after(tokens)
        request = StreamGenerateRequest(model=SMALL, text="Hello", config=GenerationConfig(max_output_tokens=100))
        call: Any = server.generation.StreamGenerate(request, metadata=PARTNER, timeout=LONG_SECONDS)
        seen = ""
        while len(seen) < len(whole):
            seen += (await call.read()).delta.text

        call.cancel()

        await counted(server, "sluicegate_outputs_seen_total", 1)
        server.engine.resume()
        await counted(server, "sluicegate_pii_found_total", float("example.org" in seen), type="email")
        await counted(server, "sluicegate_pii_found_total", float("0123" in seen), type="phone")


async def test_flagged_text_is_counted_where_the_agreement_says_count(tmp_path: Path) -> None:
    async with serving(tmp_path, demo_plan(), [terms("count")], metrics=METRICS) as server:
        server.engine.say(FLAGGED)

        answer = await generate(server)

        assert answer.candidates[0].text == FLAGGED
        assert answer.candidates[0].finished.finish_reason == FinishReason.FINISH_REASON_STOP
        await counted(server, "sluicegate_flagged_lexicon_total", 1, category="phishing")


@pytest.mark.parametrize("is_on", [True, False])
async def test_flagged_text_ends_the_stream_where_the_agreement_says_stop(tmp_path: Path, is_on: bool) -> None:
    signals = {"enabled": is_on}
    async with serving(tmp_path, demo_plan(), [terms("stop")], metrics=METRICS, signals=signals) as server:
        said = server.engine.say(FLAGGED)
        request = StreamGenerateRequest(
            model=SMALL,
            text="Hello",
            config=GenerationConfig(max_output_tokens=100, candidate_count=2),
            stream_options=StreamOptions(include_tokens=True),
        )

        texts, tokens, ends = ["", ""], list[list[int]]([[], []]), list[int]()
        usage = None
        async for event in server.generation.StreamGenerate(request, metadata=PARTNER, timeout=LONG_SECONDS):
            if event.WhichOneof("event") == "delta":
                texts[event.delta.candidate] += event.delta.text
                tokens[event.delta.candidate] += [token.id for token in event.delta.tokens]
            if event.WhichOneof("event") == "finished":
                ends.append(event.finished.finish_reason)
            usage = event.usage

        assert ends == [FinishReason.FINISH_REASON_FLAGGED] * 2
        for text, shown in zip(texts, tokens, strict=True):
            assert FLAGGED.startswith(text)
            assert text.endswith("verify your account")
            assert TOKENIZER.decode(shown).decode() == text
            assert shown == said[: len(shown)]
        assert usage is not None
        assert usage.output_tokens == 2 * (len(tokens[0]) + 1)
        await counted(server, "sluicegate_flagged_lexicon_total", 2.0 * is_on, category="phishing")


async def test_a_flagged_phrase_at_the_very_end_is_the_reason_of_the_end(tmp_path: Path) -> None:
    async with serving(tmp_path, demo_plan(), [terms("stop")]) as server:
        server.engine.say(" Please verify your account")

        answer = await generate(server)

        assert answer.candidates[0].text == " Please verify your account"
        assert answer.candidates[0].finished.finish_reason == FinishReason.FINISH_REASON_FLAGGED


async def test_the_operators_lexicon_counts_in_the_place_of_the_built_in_one(tmp_path: Path) -> None:
    (tmp_path / "lexicon.yaml").write_text("categories: {gardening: [prune the roses]}\n")
    async with serving(
        tmp_path, demo_plan(), [terms("stop")], metrics=METRICS, signals={"lexicon": "lexicon.yaml"}
    ) as server:
        server.engine.say(" Verify your account, then prune the roses, then rest.")

        answer = await generate(server)

        assert answer.candidates[0].text == " Verify your account, then prune the roses"
        await counted(server, "sluicegate_flagged_lexicon_total", 1, category="gardening")


async def test_a_bad_lexicon_stops_the_start_with_all_that_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "lexicon.yaml").write_text("categories: {gardening: [], Bad Name: [one]}\n")

    with pytest.raises(SettingsError) as refused:
        async with serving(tmp_path, demo_plan(), [terms()], signals={"lexicon": "lexicon.yaml"}):
            pass

    assert len(refused.value.problems) == 2
    assert all(problem.startswith("signals.lexicon: ") for problem in refused.value.problems)


async def test_log_probabilities_that_only_signals_want_are_not_shown(tmp_path: Path) -> None:
    async with serving(tmp_path, demo_plan(), [terms()]) as server:
        plain = await generate(server, tokens=3, include_tokens=True)
        asked = await generate(server, tokens=3, config={"response_logprobs": True})

        assert [token.HasField("log_probability") for token in plain.candidates[0].tokens] == [False] * 3
        assert [token.HasField("log_probability") for token in asked.candidates[0].tokens] == [True] * 3


@pytest.mark.parametrize(("memorisation", "asked"), [(True, 0), (False, None)])
async def test_the_engine_is_asked_for_log_probabilities_only_where_they_are_wanted(
    tmp_path: Path, memorisation: bool, asked: int | None
) -> None:
    signals = {"memorisation": memorisation}
    async with serving(tmp_path, demo_plan(), [terms()], signals=signals) as server:
        opened = list[Any]()
        runner = server.engine.runners[SMALL]
        opening = runner.open

        def open_slot(slot: int, sampling: Any, candidate: int, prompt: Any) -> None:
            opened.append(sampling.logprobs)
            opening(slot, sampling, candidate, prompt)

        runner.open = open_slot  # type: ignore[method-assign]
        await generate(server, tokens=3)

        assert opened == [asked]


async def test_prompts_much_alike_are_counted_and_shown_as_a_share_of_the_hour(tmp_path: Path) -> None:
    prompts = [f"Dear Mr {name}, please send the report of last month to my office." for name in ("Lee", "Ray", "Fox")]
    async with serving(tmp_path, demo_plan(), [terms()], metrics=METRICS) as server:
        for prompt in prompts:
            await generate(server, prompt, tokens=1)

        await counted(server, "sluicegate_prompts_seen_total", 3)
        await counted(server, "sluicegate_prompt_duplicates_total", 2)
        await counted(server, "sluicegate_prompt_duplicate_ratio", 2 / 3)


async def test_token_ids_are_a_prompt_like_their_text(tmp_path: Path) -> None:
    text = "Please send the report of last month to my office as soon as you can."
    async with serving(tmp_path, demo_plan(), [terms()], metrics=METRICS) as server:
        request = GenerateRequest(model=SMALL, config=GenerationConfig(max_output_tokens=1))
        request.token_ids.ids.extend(TOKENIZER.encode(text))

        await generate(server, text, tokens=1)
        await server.generation.Generate(request, metadata=PARTNER, timeout=LONG_SECONDS)

        await counted(server, "sluicegate_prompt_duplicates_total", 1)


async def test_windows_survive_a_restart(tmp_path: Path) -> None:
    prompt = "Please send the report of last month to my office as soon as you can."
    async with serving(tmp_path, demo_plan(), [terms()]) as server:
        for _ in range(4):
            await generate(server, prompt, tokens=1)

    async with serving(tmp_path, demo_plan(), [terms()], metrics=METRICS) as server:
        await counted(server, "sluicegate_prompts_seen_total", 0)
        await counted(server, "sluicegate_prompt_duplicate_ratio", 3 / 4)
        await counted(server, "sluicegate_networks_per_token_max", 1)


@pytest.mark.parametrize("off", ["off", False, {"enabled": False}])
async def test_with_signals_off_nothing_is_looked_at(tmp_path: Path, off: object) -> None:
    async with serving(tmp_path, demo_plan(), [terms()], metrics=METRICS, signals=off) as server:
        server.engine.say(PERSONAL)

        answer = await generate(server)

        metrics = await server.metrics()
        assert answer.candidates[0].text == PERSONAL
        assert metrics["sluicegate_signals_enabled"] == 0
        assert metrics['sluicegate_prompts_seen_total{partner="example-lab"}'] == 0
        assert metrics['sluicegate_outputs_seen_total{partner="example-lab"}'] == 0


async def test_a_refused_call_leaves_no_trace_in_the_sketches(tmp_path: Path) -> None:
    async with serving(tmp_path, demo_plan(), [terms()], metrics=METRICS) as server:
        request = GenerateRequest(model="gpt2-1558m", text="Hello", config=GenerationConfig(max_output_tokens=1))
        with pytest.raises(Exception, match="PERMISSION_DENIED"):
            await server.generation.Generate(request, metadata=PARTNER, timeout=LONG_SECONDS)
        await generate(server, tokens=1)

        await counted(server, "sluicegate_prompts_seen_total", 1)


@pytest.mark.parametrize("stop", [" account", " account now and more text!"])
async def test_a_stop_sequence_hides_nothing_from_the_lexicon(tmp_path: Path, stop: str) -> None:
    async with serving(tmp_path, demo_plan(), [terms("stop")], metrics=METRICS) as server:
        server.engine.say(FLAGGED)

        answer = await generate(server, include_tokens=True, config={"stop_sequences": [stop]})

        shown = TOKENIZER.decode([token.id for token in answer.candidates[0].tokens]).decode()
        assert answer.candidates[0].finished.finish_reason == FinishReason.FINISH_REASON_FLAGGED
        assert not answer.candidates[0].finished.stop_sequence
        assert shown in FLAGGED
        assert "account now" not in shown
        await counted(server, "sluicegate_flagged_lexicon_total", 1, category="phishing")
