"""A corpus, outputs and evidence of memorisation for tests."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bias_runs import MODEL, WEIGHTS

from sluicegate.client.evaluation.corpus import Corpus, open_corpus
from sluicegate.client.evaluation.journal import Journal
from sluicegate.client.evaluation.memorisation import Check, Place, Question, run_facts
from sluicegate.client.requests import GenerationConfig, Prompt
from sluicegate.client.results import Candidate, FinishReason, Generation, Started, Token, Usage
from sluicegate.evidence import MemorisationEvidence
from sluicegate.evidence.memorisation import Sampling


def text(seed: int, characters: int) -> str:
    """Letters that no other seed gives."""
    return "".join(random.Random(seed).choices("abcdefghijklmnopqrstuvwxyz ", k=characters))


RECITED, OTHER = text(1, 240), text(2, 240)
SAMPLING = Sampling(
    prompts="none", prompt_tokens=0, samples=4, max_output_tokens=60, temperature=1.0, top_k=40, seed=100
)


def corpus_of(folder: Path, *texts: str) -> Corpus:
    """A corpus with a file for each text."""
    folder.mkdir()
    for number, content in enumerate(texts):
        (folder / f"{number}.txt").write_text(content)
    return open_corpus(folder)


def generation(
    content: str,
    *,
    log_probability: float | None = -1.0,
    weights: str = WEIGHTS,
    allowed: int = 60,
    reason: FinishReason = FinishReason.MAX_OUTPUT_TOKENS,
) -> Generation:
    """An output with a token for every four characters."""
    tokens = tuple(Token(1, content[at : at + 4].encode(), log_probability, ()) for at in range(0, len(content), 4))
    started = Started("request", "", MODEL.id, weights, "s1", "r1", None, 1, 0, allowed, 0.0, 0)
    return Generation(started, (Candidate(content, tokens, reason, None, len(tokens)),), Usage(1, len(tokens)))


@dataclass(slots=True)
class Model:
    """Writes an output for each seed; those of `fails` raise once."""

    outputs: Sequence[Generation]
    fails: dict[int, Exception] = field(default_factory=dict)
    asked: list[GenerationConfig] = field(default_factory=list)

    async def __call__(self, prompt: Prompt, config: GenerationConfig) -> Generation:
        assert config.seed is not None
        number = config.seed - SAMPLING.seed
        if number in self.fails:
            raise self.fails.pop(number)
        self.asked.append(config)
        return self.outputs[number]


@dataclass(frozen=True, slots=True)
class Questions:
    """Asks without a prompt, or as if from a place."""

    place: Place | None = None

    async def __call__(self, number: int) -> Question:
        return Question([0], self.place)


def journal(path: Path, corpus: Corpus, sampling: Sampling = SAMPLING) -> Journal:
    """A journal for a run on the corpus."""
    return Journal(path, run_facts(corpus, sampling, MODEL))


async def evidence_of(path: Path, corpus: Corpus, model: Model, place: Place | None = None) -> MemorisationEvidence:
    """The evidence of a whole run, its journal at `path`."""
    with journal(path, corpus) as opened:
        check = Check(corpus, SAMPLING, MODEL, opened)
        await check.sample(Questions(place), model, lambda _: None, 2)
        return check.evidence("sluicegate 0.1.0", lambda _: None)
