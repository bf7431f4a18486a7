"""Speculation over real networks: no token depends on it, whoever drafts and however the tokens are drawn."""

from __future__ import annotations

import itertools
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from engine_streams import ids, read
from gpt2_paths import chi_squared, draw_paths, path_probabilities
from gpt2_reference import build_reference, build_runner, demo_load, pack_weights, random_ids, share_weights
from msgspec import structs
from scripted_drafts import AtRandom, Counting, at_random
from structlog.testing import capture_logs
from watermarks import key_of, scheme_of

from sluicegate.server.engine.drafters import Drafter, DraftModel, PromptLookup, Wish
from sluicegate.server.engine.messages import (
    Event,
    Figures,
    Finish,
    Finished,
    Load,
    Sampling,
    Speculation,
    Started,
    Submit,
    Token,
    WatermarkKey,
)
from sluicegate.server.engine.runner import Runner
from sluicegate.server.engine.scheduler import Scheduler
from sluicegate.server.engine.speculation import SpeculativeRunner
from sluicegate.server.engine.thread import thread_launcher
from sluicegate.server.gpt2 import TorchRunner, load_runner
from sluicegate.server.gpt2.kernels import open_kernels
from sluicegate.server.gpt2.kernels.processor import usable_tiers
from sluicegate.server.gpt2.runner import ForwardPass

VOCABULARY, CONTEXT, SLOTS, EOS = 301, 96, 8, 0
FRONT = "front"

Events = dict[tuple[str, int], list[Event]]

SAMPLINGS = {
    "greedy": Sampling(temperature=0),
    "plain": Sampling(),
    "hot": Sampling(temperature=1.7),
    "top-k": Sampling(top_k=5),
    "top-p": Sampling(top_p=0.7),
    "min-p": Sampling(min_p=0.05),
    "typical": Sampling(typical_p=0.6),
    "repetition": Sampling(temperature=0.6, repetition_penalty=1.6),
    "presence and frequency": Sampling(temperature=0.3, presence_penalty=1.0, frequency_penalty=0.7),
    "bias": Sampling(logit_bias={5: 4.0, 7: -100.0, EOS: 2.0}),
    "all": Sampling(repetition_penalty=1.2, logit_bias={7: 3.0}, temperature=0.9, top_k=50, top_p=0.95, min_p=0.01),
    "greedy and counted": Sampling(temperature=0, frequency_penalty=1.5),
    "stops": Sampling(temperature=0.5, stop_token_ids=tuple(range(40, 70))),
    "watermark": Sampling(watermark=True, top_p=0.95, frequency_penalty=0.2),
    "log-probabilities": Sampling(temperature=0.8, logprobs=2),
}


@pytest.fixture(scope="module")
def reference() -> Any:
    return build_reference(1, n_layer=2, n_head=2, n_embd=64, n_positions=CONTEXT, vocab_size=VOCABULARY)


def build_other() -> Any:
    """A smaller model, which says otherwise."""
    return build_reference(9, n_layer=1, n_head=1, n_embd=32, n_positions=CONTEXT, vocab_size=VOCABULARY)


class Oracle:
    """Guesses by a text that is known before, each token right with the chance that `guess` gives it."""

    costs_nothing = False

    def __init__(self, texts: Sequence[list[int]], guess: Callable[[int, int], int]) -> None:
        self._texts = texts
        self._guess = guess

    @property
    def cache_bytes(self) -> int:
        return 0

    def open(self, slot: int, sampling: Sampling, candidate: int, prompt: Sequence[int]) -> None:
        pass

    def close(self, slot: int) -> None:
        pass

    def propose(self, wishes: Sequence[Wish]) -> dict[int, list[int]]:
        return {wish.slot: self._propose(wish) for wish in wishes}

    def _propose(self, wish: Wish) -> list[int]:
        known = list(wish.text)
        text = next(text for text in self._texts if text[: len(known)] == known)
        right = text[len(known) : len(known) + wish.count]
        return [self._guess(token, number) % VOCABULARY for number, token in enumerate(right)]


def requests(sampling: Sampling) -> list[Submit]:
    """Prompts and outputs of several lengths; some repeat themselves, one reaches the end of the context."""
    shapes = [(1, 60, 1), (7, 1, 1), (12, 2, 2), (20, 33, 3), (60, 500, 1), (5, 40, 1)]
    messages = []
    for number, (prompt, output, candidates) in enumerate(shapes):
        ids = random_ids(number, prompt, VOCABULARY)
        text = (ids[: 1 + prompt // 3] * 3)[:prompt] if number % 2 else ids
        chosen = structs.replace(sampling, seed=number, max_output_tokens=output)
        messages.append(Submit(request=str(number), model="m", prompt=text, sampling=chosen, candidates=candidates))
    return messages


def texts_of(events: Events, messages: Sequence[Submit]) -> list[list[int]]:
    return [
        [*message.prompt, *(event.id for event in events[message.request, candidate] if isinstance(event, Token)), EOS]
        for message in messages
        for candidate in range(message.candidates)
    ]


def runner_of(network: ForwardPass) -> TorchRunner:
    """A runner that can mark what it draws, and whose texts may end."""
    return build_runner(network, SLOTS, scheme_of(1), eos_token_id=EOS)


def play(runner: Runner, *waves: Sequence[Submit]) -> Events:
    """All events by request and candidate: one request more comes in every third step, and a wave after all others."""
    scheduler = Scheduler(runner, step_tokens=32, clock=lambda: 0.0)
    events: Events = defaultdict(list)
    for messages in waves:
        waiting = list(reversed(messages))
        for step in itertools.count():
            if waiting and step % 3 == 0:
                scheduler.submit(FRONT, waiting.pop())
            if not waiting and not scheduler.has_work:
                break
            work = scheduler.schedule()
            if work.chunks:
                scheduler.commit(work, runner.run(work.chunks))
            for event in scheduler.take_events().get(FRONT, []):
                assert isinstance(event, Started | Token | Finished)
                events[event.request, getattr(event, "candidate", 0)].append(event)
    return dict(events)


def speculative(runner: Runner, drafter: Drafter) -> SpeculativeRunner:
    """With drafts of any length, whether they pay or not."""
    return SpeculativeRunner(runner, drafter, AtRandom(4), time.monotonic)


def outline(event: Event) -> object:
    """What an event says but for its figures, which another batch rounds otherwise."""
    if isinstance(event, Token):
        return event.id, event.logprob is None, [entry.id for entry in event.top]
    assert isinstance(event, Finished)
    return event.finish


@dataclass(frozen=True)
class Networks:
    """What a test runs: the model's network and that of another, which may draft for it.

    Where `is_exact`, results do not depend on the batch to the bit, so that log-probabilities are the same, too.
    """

    model: ForwardPass
    other: ForwardPass
    is_exact: bool


@pytest.fixture(scope="module", params=["torch", "kernels in float32", "kernels in bfloat16"])
def networks(request: pytest.FixtureRequest, reference: Any) -> Networks:
    other = build_other()
    if request.param == "torch":
        return Networks(share_weights(reference), share_weights(other), is_exact=False)
    if not usable_tiers() or shutil.which("c++") is None:
        pytest.skip("no kernels for this processor, or no compiler")
    dtype = torch.float32 if request.param == "kernels in float32" else torch.bfloat16
    kernels = open_kernels(1)
    return Networks(pack_weights(reference, kernels, dtype), pack_weights(other, kernels, dtype), is_exact=True)


def assert_alike(networks: Networks, events: Events, expected: Events) -> None:
    def seen(events: Events) -> dict[tuple[str, int], list[object]]:
        told = {key: [event for event in each if not isinstance(event, Started)] for key, each in events.items()}
        return {key: [event if networks.is_exact else outline(event) for event in each] for key, each in told.items()}

    assert seen(events) == seen(expected)


@pytest.fixture(scope="module")
def plainly(networks: Networks) -> Callable[[str], Events]:
    """The events of all requests with a sampling, without speculation."""
    return cache(lambda name: play(Counting(runner_of(networks.model)), requests(SAMPLINGS[name])))


@pytest.mark.parametrize("kind", ["random", "prompt look-up", "another model", "itself"])
@pytest.mark.parametrize("name", SAMPLINGS)
def test_no_token_depends_on_speculation(
    networks: Networks, plainly: Callable[[str], Events], name: str, kind: str
) -> None:
    messages, expected = requests(SAMPLINGS[name]), plainly(name)
    texts = texts_of(expected, messages)
    counting = Counting(runner_of(networks.model))
    drafters: dict[str, Callable[[], Drafter]] = {
        "random": lambda: Oracle(texts, at_random(3, 0.7)),
        "prompt look-up": PromptLookup,
        "another model": lambda: DraftModel(runner_of(networks.other), step_tokens=32),
        "itself": lambda: DraftModel(runner_of(networks.model), step_tokens=32),
    }

    with capture_logs() as logs:
        events = play(speculative(counting, drafters[kind]()), messages)

    assert_alike(networks, events, expected)
    assert logs == []  # no drafter failed
    assert counting.drafted > 0 or (kind == "prompt look-up" and name != "greedy")  # a random text repeats little


def test_a_model_that_drafts_for_itself_is_always_right(networks: Networks) -> None:
    messages = [message for message in requests(Sampling(repetition_penalty=1.3)) if message.candidates == 1]
    counting = Counting(runner_of(networks.model))

    play(speculative(counting, DraftModel(counting.twin(SLOTS, None), step_tokens=32)), messages)

    assert counting.accepted == counting.drafted > 50


def test_what_accepted_drafts_left_in_the_cache_serves_a_prompt_that_goes_on_with_the_text(networks: Networks) -> None:
    sampling = Sampling(max_output_tokens=40, ignore_eos=True)
    first = Submit(request="1", model="m", prompt=random_ids(4, 20, VOCABULARY), sampling=sampling, cache_salt="salt")
    plain, counting = (Counting(runner_of(networks.model)) for _ in range(2))
    [text] = texts_of(play(plain, [first]), [first])
    second = structs.replace(first, request="2", prompt=[*text[:-1], 7])

    events = play(speculative(counting, Oracle([text], at_random(3, 0.7))), [first], [second])

    assert counting.accepted > 10
    assert events["2", 0][0] == Started(request="2", queue_seconds=0, cached_tokens=len(text) - 2)
    assert_alike(networks, events, play(plain, [first], [structs.replace(second, cache_salt="")]))


def test_all_kinds_of_ends_are_met(plainly: Callable[[str], Events]) -> None:
    ends = {
        event.finish
        for name in ("stops", "bias", "plain")
        for each in plainly(name).values()
        for event in each
        if isinstance(event, Finished)
    }

    assert ends == {Finish.STOP, Finish.MAX_OUTPUT_TOKENS, Finish.CONTEXT_LENGTH}


# Distribution


def test_draws_follow_the_probabilities_with_speculation_as_without(reference: Any) -> None:
    """tests/soak/test_speculation.py has 10^5, of a trained model."""
    network, other = share_weights(reference), build_other()
    prompt, sampling = random_ids(5, 3, VOCABULARY), Sampling(temperature=2, top_k=4)
    counting = Counting(build_runner(network, 64))
    drafter = DraftModel(build_runner(share_weights(other), 64), step_tokens=1_000)

    plain = list(draw_paths(build_runner(network, 64), prompt, sampling, tokens=4, texts=2_000))
    drafted = list(draw_paths(speculative(counting, drafter), prompt, sampling, tokens=4, texts=2_000))

    assert counting.drafted > 2_000
    assert drafted == plain
    statistic, freedom = chi_squared(Counter(drafted), path_probabilities(network, prompt, 2, 4, tokens=4))
    assert freedom > 20
    assert statistic < freedom + 4 * (2 * freedom) ** 0.5


# From load to tokens, through the engine's own thread


def hosted(name: str, model: str, speculation: Speculation | None = None) -> Load:
    key = None if name == "small" else WatermarkKey(*key_of(1))
    return structs.replace(demo_load("float32", 4, model=model), model=name, watermark=key, speculation=speculation)


async def test_a_demo_model_with_drafts_says_what_it_says_without() -> None:
    sampling = Sampling(max_output_tokens=60, ignore_eos=True)
    samplings = [
        structs.replace(sampling, seed=number, temperature=number / 4, watermark=number == 3) for number in range(4)
    ]
    figures: list[Figures] = []
    worker = await thread_launcher(load_runner)(figures.append)
    loads = [
        hosted("small", "demo-xs"),
        hosted("plain", "demo-m"),
        hosted("drafted", "demo-m", Speculation(draft="small", tokens=4)),
        hosted("looked-up", "demo-m", Speculation(draft=None, tokens=4)),
    ]
    texts: dict[str, list[list[int]]] = {}

    with capture_logs() as logs:
        try:
            for load in loads:
                await worker.client.load(load)
            for model in ("plain", "drafted", "looked-up"):
                streams = [
                    await worker.client.submit(
                        Submit(
                            request=f"{model} {number}",
                            model=model,
                            prompt=random_ids(number, 5 + number, 3_000),
                            sampling=each,
                        )
                    )
                    for number, each in enumerate(samplings)
                ]
                texts[model] = [ids(await read(stream)) for stream in streams]
        finally:
            await worker.stop(60.0)

    assert not [entry for entry in logs if entry["event"] == "drafter_failed"]
    assert texts["drafted"] == texts["looked-up"] == texts["plain"]
    accepted = Counter[str]()
    for figure in figures:
        accepted[figure.model] += figure.accepted_tokens
    assert accepted["drafted"] > 0
    assert accepted["plain"] == accepted["small"] == 0
