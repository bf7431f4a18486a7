"""Graph runners, and what a crowd of requests of all kinds is told by one and by another."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from gpt2_reference import facts_of, random_ids
from late_device import LateDevice
from msgspec import structs

from sluicegate.server.engine.messages import Event, Finished, Sampling, Score, Scored, Submit, Token
from sluicegate.server.engine.runner import OverlappingRunner, Runner
from sluicegate.server.engine.scheduler import Scheduler
from sluicegate.server.engine.steps import OverlappedSteps, PlainSteps, Steps
from sluicegate.server.gpt2.device import Device
from sluicegate.server.gpt2.graph_runner import GraphRunner
from sluicegate.server.gpt2.network import Network
from sluicegate.server.gpt2.runner import TorchRunner

GREEDY = Sampling(temperature=0)
BY_DEVICE = {
    "greedy": GREEDY,
    "greedy with its log-probability": Sampling(temperature=0, logprobs=0),
    "plain": Sampling(seed=3),
    "hot": Sampling(seed=2**63 + 5, temperature=1.7),
    "top-k": Sampling(seed=4, top_k=20, logprobs=0),
    "top-p": Sampling(seed=5, top_p=0.8, temperature=1.3),
    "min-p": Sampling(seed=6, min_p=0.05),
}
BY_HOST = {
    "alternatives": Sampling(temperature=0, logprobs=2),
    "typical-p": Sampling(seed=7, typical_p=0.8),
    "repetition": Sampling(seed=8, repetition_penalty=1.5),
    "counted": Sampling(seed=9, presence_penalty=0.7, frequency_penalty=0.9),
    "biased": Sampling(seed=10, logit_bias={7: 3.0}),
}


def build_graph_runner(network: Network, slots: int, device: Device | None = None) -> GraphRunner:
    """With one slot more in its cache, as the rows that fill up need it. On a CPU, a LateDevice plays the device."""
    cache = network.new_cache(slots + 1)
    plain = TorchRunner(network, cache, facts_of(network, slots, cache.nbytes))
    return GraphRunner(network, cache, plain, device or LateDevice())


def crowd(seed: int, vocabulary: int, requests: int = 16) -> list[Submit | Score]:
    """Prompts of a token and of many, some with a beginning in common, candidates, ends of all kinds, and scores."""
    rng = random.Random(seed)
    messages: list[Submit | Score] = []
    for number in range(requests):
        prompt = random_ids(rng.getrandbits(20), rng.choice([1, 2, 30, 90]), vocabulary)
        if rng.random() < 0.4:
            prompt = [*random_ids(1, 40, vocabulary), *prompt]
        if rng.random() < 0.15:
            messages.append(Score(request=str(number), model="m", ids=[*prompt, 5], logprobs=2))
            continue
        kinds = BY_DEVICE if rng.random() < 0.8 else BY_HOST
        stops = tuple(random_ids(number, 3, vocabulary))
        output = rng.choice([1, 2, 25, 40])
        sampling = structs.replace(rng.choice(list(kinds.values())), max_output_tokens=output, stop_token_ids=stops)
        candidates = rng.choice([1, 1, 3])
        submit = Submit(request=str(number), model="m", prompt=prompt, sampling=sampling, candidates=candidates)
        messages.append(structs.replace(submit, cache_salt="lab"))
    return messages


@dataclass(slots=True)
class Told:
    """What was told of each candidate of each request, and of scores."""

    ids: dict[tuple[str, int], list[object]] = field(default_factory=dict)
    """Of tokens, and in the end how it finished."""
    logprobs: dict[tuple[str, int], list[float]] = field(default_factory=dict)

    def note(self, event: Event) -> None:
        match event:
            case Token():
                self.ids.setdefault((event.request, event.candidate), []).append(event.id)
                if event.logprob is not None:
                    self.logprobs.setdefault((event.request, event.candidate), []).append(event.logprob)
            case Finished():
                self.ids.setdefault((event.request, event.candidate), []).append(event.finish)
            case Scored():
                self.logprobs[event.request, 0] = event.logprobs
            case _:
                pass


def told(messages: Sequence[Submit | Score], runner: Runner, *, is_overlapped: bool = False) -> Told:
    """What requests are told that come in turn by turn, by plain steps or by overlapped ones."""
    scheduler = Scheduler(runner, step_tokens=64, clock=lambda: 0.0)
    steps: Steps = PlainSteps(scheduler, runner, lambda: 0.0)
    if is_overlapped:
        assert isinstance(runner, OverlappingRunner)
        steps = OverlappedSteps(scheduler, runner)
    waiting, output = list(messages), Told()
    while waiting or steps.has_work:
        if waiting:
            scheduler.submit("front", waiting.pop())
        steps.turn()
        for event in scheduler.take_events().get("front", []):
            output.note(event)
    scheduler.check()
    return output


def assert_same(ours: Told, theirs: Told) -> None:
    """The same tokens and ends, and log-probabilities but for rounding."""
    assert ours.ids == theirs.ids
    assert ours.logprobs.keys() == theirs.logprobs.keys()
    for key, logprobs in theirs.logprobs.items():
        assert ours.logprobs[key] == pytest.approx(logprobs, abs=2e-3)
