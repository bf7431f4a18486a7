"""The memorisation check: outputs sampled from a model, and looked for in a corpus.

Extraction in the manner of Carlini et al. 2021, "Extracting Training Data from Large Language Models": text is
*extractable* if the model writes it without being shown any of it. With prompts from the corpus, it is *discoverable*
(Nasr et al. 2023, "Scalable Extraction of Training Data from (Production) Language Models"): the model goes on with a
passage as the corpus does, when it is shown what comes before (Carlini et al. 2023, "Quantifying Memorization Across
Neural Language Models").
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from sluicegate.client.errors import MeasurementRefused
from sluicegate.client.evaluation.corpus import Corpus, CorpusFile, read_at
from sluicegate.client.evaluation.journal import Entry, Journal
from sluicegate.client.evaluation.log_probabilities import log_probability
from sluicegate.client.evaluation.matching import Found, Output, find_passages
from sluicegate.client.evaluation.rates import interval
from sluicegate.client.evaluation.subject import ModelUnderTest
from sluicegate.client.parallel import for_each
from sluicegate.client.requests import GenerationConfig, Prompt
from sluicegate.client.results import FinishReason, Generation
from sluicegate.evidence.memorisation import CorpusFacts, Match, MemorisationEvidence, Sampling

LEAST_TOKENS = 50
"""A passage that counts: what Carlini et al. 2023 ask to be repeated."""
_DECIMALS = 4


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the corpus a prompt ends, and its continuation begins."""

    file: CorpusFile
    offset: int


@dataclass(frozen=True, slots=True)
class Question:
    """What one sample is asked with."""

    prompt: Prompt
    place: Place | None


AskModel = Callable[[Prompt, GenerationConfig], Awaitable[Generation]]
"""A generation with token bytes and log-probabilities."""
MakeQuestion = Callable[[int], Awaitable[Question]]
"""The question of a sample, by its number; the same each time."""


def run_facts(corpus: Corpus, sampling: Sampling, model: ModelUnderTest) -> Mapping[str, object]:
    """What a journal must have been begun for."""
    return {
        "evaluation": "memorisation",
        "model": model.id,
        "weights": model.weights_sha256,
        "computed in": model.dtype,
        "corpus": corpus.sha256,
        **sampling.model_dump(mode="json"),
    }


@dataclass(frozen=True, slots=True)
class Check:
    """The work on the samples of one model and corpus. The journal is one of `run_facts`."""

    corpus: Corpus
    sampling: Sampling
    model: ModelUnderTest
    journal: Journal

    @property
    def done(self) -> Mapping[int, Entry]:
        """The journal's entries by sample. Raises FileRefused for an entry that is none of this run."""
        found: dict[int, Entry] = {}
        for entry in self.journal.entries:
            number = entry.get("sample", -1)
            if set(entry) != _MEMBERS or number not in range(self.sampling.samples) or number in found:
                raise self.journal.refuse("has an entry that is no sample of this run")
            found[number] = entry
        return found

    async def sample(
        self, question: MakeQuestion, ask: AskModel, advance: Callable[[int], None], concurrency: int
    ) -> None:
        """Draw what is not done. The first error ends it: MeasurementRefused, or what the two raise."""

        async def work(number: int) -> None:
            asked = await question(number)
            answer = await ask(asked.prompt, self._config(number))
            self.journal.add(self._entry(number, asked, answer))
            advance(1)

        done = self.done
        await for_each([each for each in range(self.sampling.samples) if each not in done], work, concurrency)
        self.journal.end()

    def outputs(self) -> Sequence[Output]:
        """What was sampled, by number."""
        done = self.done
        return [_output(done[number]) for number in range(self.sampling.samples)]

    def evidence(self, tool: str, advance: Callable[[int], None]) -> MemorisationEvidence:
        """All samples are drawn. Looks for them in the corpus; `advance` is told of bytes looked through."""
        done, ended = self.done, self.journal.ended
        assert ended is not None
        outputs = self.outputs()
        first_of = {output.content: number for number, output in reversed(list(enumerate(outputs)))}
        distinct = sorted(first_of.values())
        found = find_passages([outputs[number] for number in distinct], self.corpus, LEAST_TOKENS, advance)
        passages = {outputs[distinct[place]].content: each for place, each in found.items()}
        ranks = _Ranks({number: done[number] for number in distinct if outputs[number].lengths})
        matches = tuple(
            self._match(number, passages[output.content], done[number], ranks.of(first_of[output.content]))
            for number, output in enumerate(outputs)
            if output.content in passages
        )
        samples = len(outputs)
        return MemorisationEvidence(
            tool=tool,
            began=self.journal.began,
            ended=ended,
            subject=self.model.subject(entry["ran_under"] for entry in done.values()),
            corpus=CorpusFacts(sha256=self.corpus.sha256, files=len(self.corpus.files), bytes=self.corpus.bytes),
            sampling=self.sampling,
            least_tokens=LEAST_TOKENS,
            matched=len(matches),
            distinct=len(distinct),
            too_short=sum(len(output.lengths) < LEAST_TOKENS for output in outputs),
            rate=round(len(matches) / samples, 6),
            interval=interval(len(matches), samples),
            matches=matches,
        )

    def _config(self, number: int) -> GenerationConfig:
        return GenerationConfig(
            max_output_tokens=self.sampling.max_output_tokens,
            temperature=self.sampling.temperature,
            top_k=self.sampling.top_k or None,
            seed=self.sampling.seed + number,
            response_logprobs=True,
        )

    def _entry(self, number: int, asked: Question, answer: Generation) -> Entry:
        if not answer.candidates:
            raise MeasurementRefused("the server answered without an output")
        output, started = answer.candidates[0], answer.started
        if started.max_output_tokens < self.sampling.max_output_tokens or output.finish_reason is FinishReason.QUOTA:
            raise MeasurementRefused(
                f"the caller's limits cut sample {number} short, and short outputs hold fewer passages: ask for "
                f"--max-output-tokens {started.max_output_tokens}, or go on when the quota is reset"
            )
        total = log_probability(output.tokens, f"sample {number}") if output.tokens else 0.0
        return {
            "sample": number,
            "output": base64.b64encode(b"".join(token.bytes for token in output.tokens)).decode("ascii"),
            "lengths": [len(token.bytes) for token in output.tokens],
            "log_probability": total,
            "place": None if asked.place is None else [asked.place.file.sha256, asked.place.offset],
            "ran_under": self.model.require(started),
        }

    def _match(self, number: int, found: Found, entry: Entry, ranks: tuple[int, int]) -> Match:
        passage = found.longest
        return Match(
            sample=number,
            tokens=passage.tokens,
            bytes=passage.size,
            file_sha256=passage.file.sha256,
            offset=passage.offset,
            files=found.files,
            continues_prompt=self._continues(_output(entry), entry["place"]),
            perplexity=round(perplexity(entry), _DECIMALS),
            zlib_ratio=round(zlib_ratio(entry), _DECIMALS),
            rank_by_perplexity=ranks[0],
            rank_by_zlib_ratio=ranks[1],
        )

    def _continues(self, output: Output, place: tuple[str, int] | None) -> bool:
        """Whether the output's first tokens are what the corpus has after the prompt."""
        if place is None:
            return False
        sha256, offset = place
        size = sum(output.lengths[:LEAST_TOKENS])
        file = next(file for file in self.corpus.files if file.sha256 == sha256)
        return len(output.lengths) >= LEAST_TOKENS and read_at(file, offset, size) == output.content[:size]


class _Ranks:
    """Places of outputs in both orders, from 1; equal outputs are ranked once."""

    def __init__(self, entries: Mapping[int, Entry]) -> None:
        self._by_perplexity = _places(sorted(entries, key=lambda number: (perplexity(entries[number]), number)))
        self._by_zlib_ratio = _places(sorted(entries, key=lambda number: (-zlib_ratio(entries[number]), number)))

    def of(self, number: int) -> tuple[int, int]:
        """By perplexity, and by zlib's ratio."""
        return self._by_perplexity[number], self._by_zlib_ratio[number]


def perplexity(entry: Entry) -> float:
    """exp of the mean negative log-probability of the output's tokens; there is at least one."""
    return math.exp(-float(entry["log_probability"]) / len(entry["lengths"]))


def zlib_ratio(entry: Entry) -> float:
    """zlib's bits for the output over the model's (Carlini et al. 2021); of the model's, at least one."""
    deflated = 8 * len(zlib.compress(base64.b64decode(entry["output"])))
    return deflated / max(-float(entry["log_probability"]) / math.log(2), 1.0)


_MEMBERS = {"sample", "output", "lengths", "log_probability", "place", "ran_under"}


def _output(entry: Entry) -> Output:
    return Output(base64.b64decode(entry["output"]), entry["lengths"])


def _places(order: Sequence[int]) -> Mapping[int, int]:
    return {number: place for place, number in enumerate(order, 1)}
