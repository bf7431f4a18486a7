"""Which texts of the demo models the memorisation score takes for recited: the rates behind its threshold.

    python -m bench.memorisation --corpus DIR           DIR keeps the demo models' training text; fetched if not there
    python -m bench.memorisation --corpus DIR --model demo-l --json

The demo models have memorised nothing, so what they generate are the false suspects. For true ones a copy of the model
is trained on some held-out passages until it knows them by heart. bench/README.md says what is measured.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2LMHeadModel

from sluicegate.server.guard import Utf8Stream
from sluicegate.server.signals import memorisation
from sluicegate.server.signals.memorisation import THRESHOLD, MemorisationScore
from sluicegate.server.tokenizer import Tokenizer
from tools.demo_models import corpus

MODELS = Path(__file__).resolve().parents[1] / "server/sluicegate/server/demo/models"
PROMPT, TOKENS = 32, 224
KNOWN = 16
LEARNED_LOSS = 0.02
"""Nats per token at which a passage counts as known by heart."""
COPIED_NATS = 0.05
"""What a repeated token costs a model that copies, as large ones do. The demo models are too small to."""

Ids = list[int]
Reader = Callable[[Ids], list[float]]
"""Nats of each token but the first."""


@dataclass(frozen=True, slots=True)
class Result:
    """One kind of text. Of candidates that have no window but repetitions there is no score, and no suspicion."""

    kind: str
    candidates: int
    scored: int
    nats_per_token: float
    lowest: float
    p50: float
    p99: float
    highest: float
    suspects: float  # share of the candidates
    suspects_without_context: float  # the same if zlib did not know what stands before the window, nor drop repetitions


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.memorisation", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--corpus", type=Path, required=True, help="folder for the training text's packages")
    parser.add_argument("--model", default="demo-s", help="of the demo models (%(default)s)")
    parser.add_argument("--candidates", type=int, default=100, help="of each kind (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    arguments = parser.parse_args()
    corpus.fetch(arguments.corpus)
    desk = Desk(MODELS / arguments.model, corpus.prepare(arguments.corpus), arguments.candidates)
    results = [desk.result(*each) for each in kinds(desk)]
    run = {"model": arguments.model, "threshold": THRESHOLD, "torch": torch.__version__}
    if arguments.json:
        print(json.dumps({**run, "results": [asdict(result) for result in results]}, indent=2))
        return 0
    print(", ".join(f"{name} {value}" for name, value in run.items()))
    print(f"{'kind':<44} number  nats/token  lowest    p50    p99  highest  suspects  without context")
    for each in results:
        ranked = f"{each.lowest:>6.1f}  {each.p50:>5.1f}  {each.p99:>5.1f}  {each.highest:>7.1f}"
        shares = f"{each.suspects:>8.1%}  {each.suspects_without_context:>15.1%}"
        print(f"{each.kind:<44} {each.candidates:>6}  {each.nats_per_token:>10.2f}  {ranked}  {shares}")
    return 0


class Desk:
    """A model, its tokenizer and the two texts as tokens; draws are seeded."""

    def __init__(self, directory: Path, texts: corpus.Corpus, candidates: int) -> None:
        torch.manual_seed(0)
        self.random = random.Random(0)  # noqa: S311
        self.candidates = candidates
        self.tokenizer = Tokenizer.load(directory)
        checkpoint: Any = GPT2LMHeadModel
        self.model: Any = checkpoint.from_pretrained(directory, dtype=torch.float32).eval()
        self.training = self.tokenizer.encode("\n".join(texts.training))
        self.validation = self.tokenizer.encode("\n".join(texts.validation))

    def passages(self, text: Ids, number: int, length: int) -> list[Ids]:
        """As many passages, from anywhere in the text."""
        starts = [self.random.randrange(len(text) - length) for _ in range(number)]
        return [text[start : start + length] for start in starts]

    def generated(self, model: Any, prompts: Sequence[Ids], **sampling: Any) -> list[Ids]:
        """Each prompt and TOKENS more."""
        ids = torch.tensor(prompts)
        made: list[Ids] = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=TOKENS,
            eos_token_id=None,
            pad_token_id=0,
            **({"do_sample": True, "top_k": 0} | sampling),
        ).tolist()
        return made

    def result(self, kind: str, sequences: Sequence[Ids], reader: Reader) -> Result:
        """Score what comes after the first PROMPT tokens of each sequence."""
        scores: list[float] = []
        suspects = plain_suspects = 0
        spent: list[float] = []
        for sequence in sequences:
            nats = reader(sequence)[PROMPT - 1 :]
            pieces = list(self.pieces(sequence[PROMPT:]))
            score = MemorisationScore(self.tokenizer.decode(sequence[:PROMPT]).decode("utf-8", "replace"))
            for piece, each in zip(pieces, nats, strict=True):
                score.add(piece, -each)
            scores += [score.score] if score.score is not None else []
            suspects += score.is_suspect
            plain_suspects += plain_ratio(pieces, nats) >= THRESHOLD
            spent += nats
        ranked = sorted(scores)
        return Result(
            kind=kind,
            candidates=len(sequences),
            scored=len(scores),
            nats_per_token=statistics.mean(spent),
            lowest=ranked[0] if ranked else math.nan,
            p50=statistics.median(ranked) if ranked else math.nan,
            p99=ranked[math.ceil(0.99 * len(ranked)) - 1] if ranked else math.nan,
            highest=ranked[-1] if ranked else math.nan,
            suspects=suspects / len(sequences),
            suspects_without_context=plain_suspects / len(sequences),
        )

    def pieces(self, tokens: Ids) -> Iterator[str]:
        """The text that each token releases, as in the server."""
        stream = Utf8Stream()
        return (stream.feed(self.tokenizer.token_bytes(token)) for token in tokens)


def kinds(desk: Desk) -> Iterator[tuple[str, Sequence[Ids], Reader]]:
    """Kinds of text, and what reads each."""
    number, whole = desk.candidates, PROMPT + TOKENS
    prompts = desk.passages(desk.validation, number, PROMPT)
    model, reader = desk.model, reading(desk.model)
    yield "read: training text", desk.passages(desk.training, number, whole), reader
    yield "read: held-out text", desk.passages(desk.validation, number, whole), reader
    yield "generated: temperature 1", desk.generated(model, prompts), reader
    yield "generated: temperature 0.7", desk.generated(model, prompts, temperature=0.7), reader
    yield "generated: temperature 0.7, top 40", desk.generated(model, prompts, temperature=0.7, top_k=40), reader
    yield "generated: temperature 0.3", desk.generated(model, prompts, temperature=0.3), reader
    yield "generated: greedy", desk.generated(model, prompts, do_sample=False), reader
    for period in (8, 80, 200):
        loops = [(passage * whole)[:whole] for passage in desk.passages(desk.validation, number, period)]
        yield f"copied: held-out text, repeated every {period}", loops, copying(period)
    known = desk.passages(desk.validation, KNOWN, whole)
    learned = by_heart(desk, known)
    reader = reading(learned)
    openings = [passage[:PROMPT] for passage in known]
    yield "known by heart: read", known, reader
    yield "known by heart: greedy", desk.generated(learned, openings, do_sample=False), reader
    yield "known by heart: temperature 0.7", desk.generated(learned, openings, temperature=0.7), reader
    before, after = (desk.passages(desk.training, KNOWN, 128) for _ in range(2))
    inside = [one + passage[:128] + other for one, passage, other in zip(before, known, after, strict=True)]
    yield "known by heart: 128 tokens among 256 others", inside, reader


def reading(model: Any) -> Reader:
    """What a model makes of a text."""

    @torch.inference_mode()
    def surprises(sequence: Ids) -> list[float]:
        logits = model(torch.tensor([sequence])).logits[0, :-1]
        costs: list[float] = torch.nn.functional.cross_entropy(
            logits, torch.tensor(sequence[1:]), reduction="none"
        ).tolist()
        return costs

    return surprises


def copying(period: int) -> Reader:
    """What a model would make of a repeated text that knows nothing by heart, and sees a repetition at once."""
    return lambda sequence: [4.0 if place < period else COPIED_NATS for place in range(1, len(sequence))]


def plain_ratio(pieces: Sequence[str], nats: Sequence[float]) -> float:
    """The highest ratio of the same windows, as the paper has it: zlib sees the window alone."""
    length, stride = memorisation.WINDOW_TOKENS, memorisation.STRIDE_TOKENS
    ratios = [0.0]
    for start in range(0, len(pieces) - length + 1, stride):
        text = "".join(pieces[start : start + length])
        bits = math.fsum(nats[start : start + length]) / math.log(2)
        ratios.append(memorisation.zlib_bits(text, "") / max(bits, 1.0))
    return max(ratios)


def by_heart(desk: Desk, passages: Sequence[Ids]) -> Any:
    """A copy of the model that was trained on these passages, after other text of any length, until it knows them."""
    learner = copy.deepcopy(desk.model).train()
    optimizer = torch.optim.AdamW(learner.parameters(), lr=1e-3, weight_decay=0.0)
    loss = math.inf
    while loss > LEARNED_LOSS:
        others = desk.passages(desk.training, len(passages), desk.random.choice((0, 32, 128)) + 1)
        ids = torch.tensor([other[1:] + passage for other, passage in zip(others, passages, strict=True)])
        labels = ids.clone()
        labels[:, : ids.shape[1] - len(passages[0]) + PROMPT] = -100  # neither the other text nor the opening
        outcome = learner(ids, labels=labels)
        optimizer.zero_grad()
        outcome.loss.backward()
        optimizer.step()
        loss = 0.9 * min(loss, 10.0) + 0.1 * outcome.loss.item()  # smoothed over the lengths
    learner.eval()
    return learner


if __name__ == "__main__":
    sys.exit(main())
