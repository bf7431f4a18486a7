"""What the recognisers and redaction cost, how long redaction makes text wait, and how often finds are wrong in prose.

    python -m bench.recognisers                       cost
    python -m bench.recognisers --prose DIR --json    and what they find in the DIR/*.txt of a corpus

Text is fed in pieces of four characters, about a token of English each; hostile text one character at a time, at the
length that it is said to be linear for. bench/README.md says what is measured and what is not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from sluicegate.server.guard import Redaction
from sluicegate.server.signals import LexiconScanner, MemorisationScore, PiiScanner, load_lexicon

PIECE = 4
PROSE = (
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a "
    "wife. However little known the feelings or views of such a man may be on his first entering a neighbourhood, this "
    "truth is so well fixed in the minds of the surrounding families, that he is considered as the rightful property "
    "of some one or other of their daughters. In 1812 he had 4,000 pounds a year, and in 1813 rather more.\n"
)  # Jane Austen, Pride and Prejudice, 1813; the last sentence is ours, for its numbers
CURLY = PROSE.replace(" a ", " \u2018a\u2019 ").replace(",", " —")
PERSONAL = "Ann, ann@example.com, +1 212 555 0123, 4111 1111 1111 1111, GB82 WEST 1234 5698 7654 32, 192.0.2.7. "
CHARACTERS = 100_000
HOSTILE = {
    "digits": "1",
    "@": "@",
    "a.": "a.",
    "a@a.": "a@a.",
    "1:": "1:",
    "numbers of no plan": "+999 555 0123 ",
    "broken account numbers": "GB82 ",
    "zero-width spaces": "\u200b",
}


class Scanner(Protocol):
    """What is measured."""

    def feed(self, text: str) -> object:
        """A piece."""

    def end(self) -> object:
        """The last of it."""


class Scored:
    """The memorisation score with the interface of the others, each piece a token of 3 nats."""

    def __init__(self) -> None:
        self._score = MemorisationScore()

    def feed(self, text: str) -> None:
        self._score.add(text, -3.0)

    def end(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Medians over the rounds. The loop that feeds the pieces is measured apart and taken off."""

    recogniser: str
    text: str
    us_per_1000_characters: float
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True)
class Wait:
    """How long text without personal data waits in redaction, in characters and in pieces.

    `held`: characters that wait after a piece. `first`: pieces that have come when the first text leaves, a text
    beginning at each character of the prose in turn.
    """

    text: str
    held_mean: float
    held_most: int
    first_mean: float
    first_most: int


@dataclass(frozen=True, slots=True)
class Finds:
    """What one recogniser found in a corpus in which nothing is to be found."""

    recogniser: str
    megabytes: float
    finds: dict[str, int]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.recognisers", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count; one more goes before (%(default)s)")
    parser.add_argument("--prose", type=Path, default=None, help="folder of *.txt in which finds are counted")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    arguments = parser.parse_args()
    costs = list(measured(arguments.rounds))
    waits = [wait("prose", PROSE), wait("prose, curly quotes", CURLY)]
    finds = list(counted(arguments.prose)) if arguments.prose is not None else []
    if arguments.json:
        results = {"costs": [*map(asdict, costs)], "waits": [*map(asdict, waits)], "finds": [*map(asdict, finds)]}
        print(json.dumps(results, indent=2))
        return 0
    print(f"{'recogniser':<24}  {'text':<24}  µs/1,000 characters  lowest-highest")
    for cost in costs:
        spread = f"{cost.lowest:.1f}-{cost.highest:.1f}"
        print(f"{cost.recogniser:<24}  {cost.text:<24}  {cost.us_per_1000_characters:>19.1f}  {spread:>14}")
    for waited in waits:
        held, first = f"{waited.held_mean:.1f} ({waited.held_most})", f"{waited.first_mean:.2f} ({waited.first_most})"
        print(f"redaction, {waited.text}: characters held, mean (most) {held}; pieces until the first text {first}")
    for each in finds:
        print(f"{each.recogniser}: in {each.megabytes:.1f} MB of prose {each.finds or 'nothing'}")
    return 0


def measured(rounds: int) -> Iterator[Cost]:
    """Each recogniser over each kind of text."""
    lexicon = load_lexicon()
    recognisers: dict[str, Callable[[], Scanner]] = {
        "personal data": PiiScanner,
        "lexicon": lambda: LexiconScanner(lexicon),
        "lexicon, at once": lambda: LexiconScanner(lexicon, at_once=True),
        "memorisation": Scored,
        "redaction": Redaction,
    }
    texts = {"prose": PROSE, "prose, curly quotes": CURLY, "personal data": PERSONAL}
    for name, opened in recognisers.items():
        for kind, text in texts.items():
            whole = repeated(text, CHARACTERS)
            pieces = [whole[start : start + PIECE] for start in range(0, len(whole), PIECE)]
            yield cost(name, kind, opened, pieces, rounds)
    for name in ("personal data", "lexicon, at once", "redaction"):
        for kind, text in HOSTILE.items():
            yield cost(name, f"hostile: {kind}", recognisers[name], list(repeated(text, CHARACTERS)), rounds)


def cost(name: str, kind: str, opened: Callable[[], Scanner], pieces: Sequence[str], rounds: int) -> Cost:
    """Time a recogniser over the pieces. The first round warms up and does not count."""
    thousands = sum(map(len, pieces)) / 1000
    times = [(seconds(opened(), pieces) - seconds(Deaf(), pieces)) * 1e6 / thousands for _ in range(rounds + 1)][1:]
    return Cost(name, kind, statistics.median(times), min(times), max(times))


class Deaf:
    """Looks for nothing."""

    def feed(self, text: str) -> None:
        """A piece."""

    def end(self) -> None:
        """The last of it."""


def seconds(scanner: Scanner, pieces: Sequence[str]) -> float:
    """Of processor time, which other work on the machine disturbs least."""
    begin = time.process_time()
    for piece in pieces:
        scanner.feed(piece)
    scanner.end()
    return time.process_time() - begin


def wait(kind: str, text: str) -> Wait:
    """Watch redaction hold the prose back, from each of its characters on."""
    held: list[int] = []
    first: list[int] = []
    for begin in range(len(text)):
        whole = text[begin:] + text[:begin]
        redaction, passed, fed = Redaction(), 0, 0
        for count, start in enumerate(range(0, len(whole), PIECE), 1):
            piece = whole[start : start + PIECE]
            fed += len(piece)
            was_silent = passed == 0
            passed += len(redaction.feed(piece))
            held.append(fed - passed)
            if was_silent and passed:
                first.append(count)
    return Wait(kind, statistics.mean(held), max(held), statistics.mean(first), max(first))


def repeated(text: str, length: int) -> str:
    return (text * (length // len(text) + 1))[:length]


def counted(folder: Path) -> Iterator[Finds]:
    """Finds in all texts of the folder, a scanner for each."""
    lexicon = load_lexicon()
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.txt"))]
    megabytes = sum(map(len, texts)) / 1e6
    recognisers: dict[str, Callable[[], PiiScanner | LexiconScanner]] = {
        "personal data": PiiScanner,
        "lexicon": lambda: LexiconScanner(lexicon),
    }
    for name, opened in recognisers.items():
        finds: Counter[str] = Counter()
        for text in texts:
            scanner = opened()
            finds.update([*scanner.feed(text), *scanner.end()])
        yield Finds(name, megabytes, {str(kind): number for kind, number in sorted(finds.items())})


if __name__ == "__main__":
    sys.exit(main())
