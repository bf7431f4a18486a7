"""A lexicon of flagged content: a file of words and phrases by category, read strictly.

It is a signal for people who look closer, not a judgement about a text: docs/recognisers.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from sluicegate.auth.documents import DocumentError, parse_document
from sluicegate.server.signals.errors import LexiconError
from sluicegate.server.signals.folding import fold

BUILT_IN = Path(__file__).with_name("lexicon.yaml")
MAX_FILE_BYTES = 1024 * 1024
MAX_ENTRIES = 10_000
MAX_CATEGORIES = 32  # each is a metric label beside each partner
MAX_ENTRY_CHARACTERS = 96
MAX_PROBLEMS = 20
TOKEN = re.compile(r"[^\W_]+|[.!?;]")
"""A word, or what ends a sentence. All else, spaces, hyphens and quotes, only parts words."""
SENTENCE_ENDS = frozenset(".!?;")

_CATEGORY = re.compile(r"[a-z][a-z0-9_]{0,30}")


class Phrases:
    """A node in the tree of phrases, a word a level: `next` by word, `ends` the category whose phrase is complete."""

    __slots__ = ("ends", "next")

    def __init__(self) -> None:
        self.next: dict[str, Phrases] = {}
        self.ends: str | None = None


class Lexicon:
    """Words and phrases by category. Immutable once loaded; one is shared by all scanners."""

    def __init__(self, entries: dict[str, tuple[str, ...]]) -> None:
        """`entries`: phrases by category, checked by `load_lexicon`: none is empty, none stands in two categories."""
        self.categories = tuple(sorted(entries))
        self.phrases = Phrases()
        self.longest_word = 0  # in characters
        for category, phrases in entries.items():
            for phrase in phrases:
                node = self.phrases
                for word in words(phrase):
                    self.longest_word = max(self.longest_word, len(word))
                    node = node.next.setdefault(word, Phrases())
                node.ends = category


def words(text: str) -> list[str]:
    """The words of a text as they are compared: folded, without regard to case, in order. Sentence ends included."""
    return TOKEN.findall(fold(text).casefold())


def load_lexicon(path: Path | None = None) -> Lexicon:
    """The lexicon of a file, or the built-in one. Blocks; 10,000 entries take about a second.

    Raises LexiconError with every problem (the first 20 of them): a lexicon is used whole or not at all.
    """
    path = path or BUILT_IN
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        document = parse_document(raw, MAX_FILE_BYTES)
    except OSError as error:
        raise LexiconError([f"{path}: cannot be read: {error.strerror}"]) from error
    except DocumentError as error:
        raise LexiconError([f"{path}: {error}"]) from error
    problems: list[str] = []
    entries = _categories(document, problems)
    if problems:
        more = [f"and {len(problems) - MAX_PROBLEMS} more"] if len(problems) > MAX_PROBLEMS else []
        raise LexiconError([f"{path}: {problem}" for problem in [*problems[:MAX_PROBLEMS], *more]])
    return Lexicon(entries)


def _categories(document: dict[str, object], problems: list[str]) -> dict[str, tuple[str, ...]]:
    categories = document.get("categories")
    strangers = sorted(document.keys() - {"categories"})
    problems += [f"{key!r:.40} is not known here; the only key is categories" for key in strangers]
    if not isinstance(categories, dict) or not categories:
        problems.append("categories must map a name to a list of words and phrases, and have at least one")
        return {}
    if len(categories) > MAX_CATEGORIES:
        problems.append(
            f"{len(categories)} categories; at most {MAX_CATEGORIES} are taken, since each is a metric label"
        )
        return {}
    total = sum(len(entries) for entries in categories.values() if isinstance(entries, list))
    if total > MAX_ENTRIES:
        problems.append(f"{total} entries; at most {MAX_ENTRIES} are taken")
        return {}
    seen: dict[tuple[str, ...], str] = {}
    return {category: tuple(_entries(category, entries, seen, problems)) for category, entries in categories.items()}


def _entries(category: str, entries: object, seen: dict[tuple[str, ...], str], problems: list[str]) -> Iterator[str]:
    """The category's usable phrases. `seen`: where each phrase was met first."""
    if not _CATEGORY.fullmatch(category):
        problems.append(f"{category!r:.40}: write at most 31 lower-case letters, digits and _, a letter first")
        return
    if not isinstance(entries, list) or not entries:
        problems.append(f"{category}: must be a list of at least one word or phrase")
        return
    for number, entry in enumerate(entries, start=1):
        place = f"{category}, entry {number}"
        if not isinstance(entry, str):
            problems.append(f"{place}: is not text; put it in quotes")
        elif len(entry) > MAX_ENTRY_CHARACTERS:
            problems.append(f"{place}: has {len(entry)} characters; at most {MAX_ENTRY_CHARACTERS} are taken")
        elif not (key := tuple(words(entry))):
            problems.append(f"{place}: has no letter and no digit, so it would never be met")
        elif SENTENCE_ENDS.intersection(key):
            problems.append(f"{place}: has . ! ? or ;, and no phrase goes on past the end of a sentence; leave it out")
        elif key in seen:
            problems.append(f"{place}: is the same as {seen[key]}; leave one out")
        else:
            seen[key] = place
            yield entry
