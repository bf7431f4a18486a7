"""Random loops: several front ends on several models, of which some fail; the sound ones must not notice."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from engine_port import Entry, PlayedPort
from scripted_runner import ScriptedRunner, count_up, scripted_load

from sluicegate.server.engine.errors import StepError
from sluicegate.server.engine.loop import EngineLoop
from sluicegate.server.engine.messages import Abort, Finish, Finished, Sampling, Submit, Token

SOUND, FAULTY, FRAIL = "sound", "faulty", "frail"
STAYS, ALSO_STAYS, LEAVES = "stays", "also stays", "leaves"
TURNS = 400
SLOTS = 4


class Faulty(ScriptedRunner):
    """Fails at random: with a whole step, or with one of its sequences."""

    def __init__(self, chance: random.Random, rate: float) -> None:
        super().__init__(slots=SLOTS)
        self._chance = chance
        self._rate = rate

    def fail_perhaps(self) -> None:
        """Decide the next step's fate."""
        self.failures.clear()
        if self._chance.random() < self._rate:
            at_fault = StepError("one", slots=[self._chance.randrange(SLOTS)])
            self.failures.append(self._chance.choice([RuntimeError("all"), at_fault]))


class Storm:
    """Seeded turns of requests and aborts, with what each request must come to."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        self.faulty, self.frail = Faulty(chance, 1.0), Faulty(chance, 0.3)
        self.runners = {SOUND: ScriptedRunner(slots=SLOTS), FAULTY: self.faulty, FRAIL: self.frail}
        self.sent: dict[tuple[str, str], Submit] = {}
        self.aborted: set[tuple[str, str]] = set()
        turns: list[list[Entry]] = [[scripted_load(model) for model in self.runners]]
        # Always a stream on the sound model: as long as its steps succeed, the device is not to blame.
        turns += [
            [(STAYS, self.request(STAYS, f"long {turn}", SOUND, [7], 40)), *self.turn(chance, turn)]
            for turn in range(TURNS)
        ]
        turns.insert(TURNS // 2, [lambda: self.port.gone.add(LEAVES)])
        self.port = PlayedPort(*turns)

    def turn(self, chance: random.Random, turn: int) -> list[Entry]:
        entries: list[Entry] = [self.faulty.fail_perhaps, self.frail.fail_perhaps]
        for front_end in (STAYS, ALSO_STAYS, LEAVES):
            if chance.random() < 0.3:
                prompt = [chance.randrange(1, 900) for _ in range(chance.choice([1, 3, 20]))]
                message = self.request(
                    front_end, str(turn), chance.choice(list(self.runners)), prompt, chance.randrange(1, 9)
                )
                entries.append((front_end, message))
        if chance.random() < 0.1:
            front_end, request = chance.choice(list(self.sent))
            self.aborted.add((front_end, request))
            entries.append((front_end, Abort(request=request)))
        return entries

    def request(self, front_end: str, name: str, model: str, prompt: list[int], tokens: int) -> Submit:
        message = Submit(request=name, model=model, prompt=prompt, sampling=Sampling(max_output_tokens=tokens))
        self.sent[front_end, name] = message
        return message


def expected(message: Submit) -> list[int]:
    prompt = tuple(message.prompt)
    return [count_up(0, len(prompt) + index, prompt) for index in range(message.sampling.max_output_tokens)]


@pytest.mark.parametrize("seed", range(4))
def test_every_request_ends_once_and_the_sound_model_gives_every_token(seed: int) -> None:
    storm = Storm(seed)
    tokens: dict[tuple[str, str], list[int]] = {}
    ends: Counter[tuple[str, str]] = Counter()
    finishes: dict[tuple[str, str], Finish] = {}

    EngineLoop(storm.port, lambda load: storm.runners[load.model], clock=lambda: 0.0).run()
    for front_end, event in storm.port.sent:
        if isinstance(event, Token):
            tokens.setdefault((front_end, event.request), []).append(event.id)
        if isinstance(event, Finished):
            ends[front_end, event.request] += 1
            finishes[front_end, event.request] = event.finish

    stayed = {key: message for key, message in storm.sent.items() if key[0] != LEAVES}
    assert {key: ends[key] for key in stayed} == dict.fromkeys(stayed, 1)
    for key, message in stayed.items():
        drawn = tokens.get(key, [])
        assert drawn == expected(message)[: len(drawn)]
        if message.model == SOUND and key not in storm.aborted:
            assert drawn == expected(message)
            assert finishes[key] is Finish.MAX_OUTPUT_TOKENS
    assert {finishes[key] for key, message in stayed.items() if message.model == FRAIL} >= {
        Finish.FAILED,
        Finish.MAX_OUTPUT_TOKENS,
    }
    assert all(runner.open_slots == {} for runner in storm.runners.values())
