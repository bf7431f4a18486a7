"""How often a watermark is found again, in error too, what it does to text, and what it costs.

    python -m bench.watermark --prose FILE
    python -m bench.watermark --prose FILE --model demo-l --texts 320 --keys DIR --evidence watermark.json
    python -m bench.watermark --prose FILE --part speed --json

`--prose` is a text file with a paragraph a line: prompts come from it, and paragraphs that must not be called marked.
All texts are decoded and tokenized anew before they are looked at. docs/watermark.md has what came of it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from msgspec import structs

from bench.checkpoint import cache_directory, random_checkpoint
from bench.figures import Spread, paired
from bench.machine import version_of
from bench.marked import Found, Writer, entropies, found_in, open_writer, surprises
from bench.terminal import document, headline, run, say, table
from sluicegate.evidence import WatermarkEvidence, digest, encode
from sluicegate.evidence.form import Subject
from sluicegate.evidence.watermark import Power, Prose, Robustness
from sluicegate.server.engine.messages import Sampling
from sluicegate.server.tokenizer import Tokenizer
from sluicegate.server.watermark import LEAST_TOKENS, MOST_CANDIDATES, Detector, WatermarkKey, read_keys

LENGTHS = (25, 50, 100, 200, 400)
TEMPERATURES = (0.3, 0.5, 0.7, 1.0, 1.3)
PROMPT_TOKENS = 24
RATE = 1e-3
PARAGRAPHS = 10_000
CAPS = (100, MOST_CANDIDATES, 1_024)
SHARES = (0.1, 0.3, 0.5)
PARTS = ("power", "prose", "perplexity", "speed")


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens of `rows` streams in a second of processor time, with the watermark and without; `ratio`: with over
    without, round by round. Processor time, so that others on the machine are not measured: take one thread."""

    model: str
    rows: int
    plain_tokens_per_second: float
    marked_tokens_per_second: float
    ratio: Spread


@dataclass(frozen=True, slots=True)
class Text:
    """Perplexity of three ways to draw at temperature 1, under the model itself, with its standard error; and the
    probability that lies beyond so many candidates."""

    uncapped: tuple[float, float]
    capped: tuple[float, float]
    marked: tuple[float, float]
    beyond: dict[int, float]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.watermark", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--prose", type=Path, required=True, help="a paragraph a line, UTF-8")
    parser.add_argument("--model", default="demo-l", help="a demo model (%(default)s)")
    parser.add_argument("--texts", type=int, default=128, help="of each temperature (%(default)s)")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS), help="(%(default)s)")
    parser.add_argument("--keys", type=Path, help="take the model's latest key from here, not one made for this run")
    parser.add_argument("--evidence", type=Path, help="new file for the evidence; needs all parts but speed")
    parser.add_argument("--rounds", type=int, default=5, help="of speed (%(default)s)")
    parser.add_argument("--shape", nargs="*", default=["124m"], help="random checkpoints to time, too (%(default)s)")
    parser.add_argument("--directory", type=Path, default=cache_directory(), help="of these (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    options = parser.parse_args()
    if options.evidence is not None and not {"power", "prose", "perplexity"} <= set(options.part):
        parser.error("--evidence needs the parts power, prose and perplexity")

    torch.set_num_threads(options.threads)
    began, key = datetime.now(UTC), key_of(options)
    writer = open_writer(options.model, key)
    paragraphs = [writer.tokenizer.encode(line) for line in options.prose.read_text(encoding="utf-8").splitlines()]
    long = [ids[:PROMPT_TOKENS] for ids in paragraphs if len(ids) >= PROMPT_TOKENS]
    prompts = long[:: max(1, len(long) // options.texts)]
    results: dict[str, object] = {"watermark_id": key.id}
    if "power" in options.part:
        results["power"], results["robustness"] = power(writer, key, prompts, paragraphs, options.texts)
    if "prose" in options.part:
        results["prose"] = prose(writer.tokenizer, key, options.prose)
    if "perplexity" in options.part:
        results["perplexity"] = perplexity(writer, prompts, options.texts)
    if options.evidence is not None:
        results["evidence_sha256"] = write_evidence(options, writer, key, began, results)
    if "speed" in options.part:
        results["speed"] = list(speeds(options, key))
    print(document("watermark", options, results) if options.json else shown(options, results))
    return 0


def key_of(options: argparse.Namespace) -> WatermarkKey:
    """The model's latest key on file, else one that nobody else has."""
    if options.keys is None:
        return WatermarkKey(options.model, 1, secrets.token_bytes(32))
    return max((key for key in read_keys(options.keys) if key.model == options.model), key=lambda key: key.epoch)


def power(
    writer: Writer, key: WatermarkKey, prompts: Sequence[list[int]], paragraphs: Sequence[list[int]], count: int
) -> tuple[list[Power], list[Robustness]]:
    """Texts of every temperature, found again by their first tokens, and at temperature 1 after changes."""
    detector = Detector(key.scheme())
    rows: list[Power] = []
    changed: list[Robustness] = []
    for temperature in TEMPERATURES:
        say(f"temperature {temperature}: {count} texts")
        sampling = Sampling(temperature=temperature, watermark=True)
        texts = writer.texts(prompts, sampling, count, max(LENGTHS))
        entropy = float(np.mean(entropies(writer, texts[:32], temperature)))
        for length in LENGTHS:
            found = found_in(detector, writer.tokenizer, [text[length_of(length)] for text in texts], RATE)
            rows.append(
                Power(
                    texts=found.texts,
                    found=found.found,
                    rate=found.rate,
                    temperature=temperature,
                    tokens=length,
                    entropy=round(entropy, 3),
                )
            )
        if temperature == 1:
            changed = list(changes(writer.tokenizer, key, texts, paragraphs))
    return rows, changed


def length_of(tokens: int) -> slice:
    return slice(0, tokens)


def changes(
    tokenizer: Tokenizer, key: WatermarkKey, texts: Sequence[list[int]], paragraphs: Sequence[list[int]]
) -> Iterator[Robustness]:
    """What is left of the mark after edits, and what another key sees of it."""
    random = np.random.default_rng(1)
    detector = Detector(key.scheme())
    other = Detector(WatermarkKey(key.model, key.epoch + 1, secrets.token_bytes(32)).scheme())
    words = np.concatenate([np.array(ids) for ids in paragraphs])

    def replaced(share: float) -> Callable[[list[int]], list[int]]:
        def change(text: list[int]) -> list[int]:
            places = random.random(len(text)) < share
            return [int(id_) for id_ in np.where(places, random.choice(words, len(text)), text)]

        return change

    def half(text: list[int]) -> list[int]:
        start = int(random.integers(0, len(words) - len(text)))
        return [*text[: len(text) // 2], *words[start : start + len(text) // 2].tolist()]

    def shuffled(text: list[int]) -> list[int]:
        return [int(id_) for id_ in random.permutation(text)]

    cases: list[tuple[str, Detector, Callable[[list[int]], list[int]]]] = [
        ("none", detector, list),
        *((f"{share:.0%} of tokens replaced", detector, replaced(share)) for share in SHARES),
        ("half other prose", detector, half),
        ("tokens shuffled", detector, shuffled),
        ("another key", other, list),
    ]
    for length in (200, 400):
        for name, by, change in cases:
            found = found_in(by, tokenizer, [change(text[:length]) for text in texts], RATE)
            yield Robustness(
                texts=found.texts, found=found.found, rate=found.rate, change=name, temperature=1.0, tokens=length
            )


def prose(tokenizer: Tokenizer, key: WatermarkKey, file: Path) -> Prose:
    """The first paragraphs that are long enough, each of which is called marked in error if at all."""
    say("prose")
    detector, found = Detector(key.scheme()), []
    for line in file.read_text(encoding="utf-8").splitlines():
        ids = tokenizer.encode(line)
        if len(ids) >= LEAST_TOKENS and (measured := detector.measure(ids)).is_enough:
            found.append(measured.p_value <= RATE)
        if len(found) == PARAGRAPHS:
            break
    whole = Found(len(found), sum(found))
    return Prose(
        texts=whole.texts,
        found=whole.found,
        rate=whole.rate,
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
    )


def perplexity(writer: Writer, prompts: Sequence[list[int]], count: int) -> Text:
    """How likely the model finds what it wrote, and how much a cap on candidates cuts off."""
    say("perplexity")
    capped = Sampling(top_k=MOST_CANDIDATES)
    ways = (Sampling(), capped, structs.replace(capped, watermark=True))
    found: list[tuple[float, float]] = []
    beyond = dict.fromkeys(CAPS, 0.0)
    for way in ways:
        texts = writer.texts(prompts, way, count, max(LENGTHS))
        means, tails = surprises(writer, texts, CAPS)
        level = math.exp(float(np.mean(means)))
        found.append((level, level * float(np.std(means)) / math.sqrt(len(means))))
        if way is ways[0]:
            beyond = tails
    uncapped, with_cap, marked = found
    return Text(uncapped, with_cap, marked, beyond)


def write_evidence(
    options: argparse.Namespace, writer: Writer, key: WatermarkKey, began: datetime, results: dict[str, object]
) -> str:
    """Write the file; its digest. OSError rather than replace one."""
    text = results["perplexity"]
    assert isinstance(text, Text)
    facts = writer.facts
    evidence = WatermarkEvidence.model_validate(
        {
            "tool": f"bench.watermark of sluicegate {version_of('sluicegate')}",
            "began": began,
            "ended": datetime.now(UTC),
            "subject": Subject(
                model=options.model, weights_sha256=facts.weights_sha256, dtype=facts.dtype, served_under=()
            ),
            "watermark_id": key.id,
            "false_positive_rate": RATE,
            "power": tuple(results["power"]),  # type: ignore[arg-type]
            "robustness": tuple(results["robustness"]),  # type: ignore[arg-type]
            "prose": results["prose"],
            "perplexity_plain": round(text.capped[0], 3),
            "perplexity_marked": round(text.marked[0], 3),
        }
    )
    raw = encode(evidence)
    with options.evidence.open("xb") as file:
        file.write(raw)
    return digest(raw)


def speeds(options: argparse.Namespace, key: WatermarkKey, rows: int = 32, steps: int = 8) -> Iterator[Speed]:
    """Decode steps of so many streams in turns with and without the mark, after the one that reads the prompts."""
    shapes = [(options.model, None), *((shape, random_checkpoint(shape, options.directory)) for shape in options.shape)]
    for name, directory in shapes:
        say(f"speed of {name}")
        writer = open_writer(name, key, directory, slots=rows)
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for turn in range(options.rounds + 1):
            for watermark in (False, True) if turn % 2 else (True, False):
                sampling = Sampling(top_k=MOST_CANDIDATES, watermark=watermark)
                taken = writer.steps(sampling, rows, steps, time.process_time)
                if turn:
                    seconds[watermark].append(taken)
        tokens = rows * steps
        yield Speed(
            model=name,
            rows=rows,
            plain_tokens_per_second=tokens / float(np.median(seconds[False])),
            marked_tokens_per_second=tokens / float(np.median(seconds[True])),
            ratio=paired(seconds[False], seconds[True]),
        )


def shown(options: argparse.Namespace, results: dict[str, object]) -> str:
    """For people."""
    parts = [f"{headline()}\n{options.model}, key {results['watermark_id']}, false positive rate {RATE}"]
    if "power" in results:
        rows: list[Power] = results["power"]  # type: ignore[assignment]
        header = ["temperature", "entropy", *(f"{length} tokens" for length in LENGTHS)]
        lines = []
        for temperature in TEMPERATURES:
            own = [row for row in rows if row.temperature == temperature]
            lines.append([str(temperature), f"{own[0].entropy:.2f}", *(f"{row.rate:.1%}" for row in own)])
        parts.append(table(header, lines))
        changed: list[Robustness] = results["robustness"]  # type: ignore[assignment]
        by_name = {row.change: [each for each in changed if each.change == row.change] for row in changed}
        parts.append(
            table(
                ["change", "200 tokens", "400 tokens"],
                [[name, *(f"{row.rate:.1%}" for row in own)] for name, own in by_name.items()],
            )
        )
    for name in ("prose", "perplexity", "speed"):
        if name in results:
            parts.append(f"{name}: {results[name]}")
    return "\n\n".join([*parts, json.dumps(results["evidence_sha256"])] if "evidence_sha256" in results else parts)


if __name__ == "__main__":
    run(main)
