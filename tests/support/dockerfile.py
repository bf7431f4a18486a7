"""The Dockerfile, read as far as it needs to be: its stages, and what each instruction says."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "Dockerfile"

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True, slots=True)
class Instruction:
    """As `RUN apt-get update`: the keyword in capitals, and the rest in one line."""

    keyword: str
    text: str

    @property
    def words(self) -> list[str]:
        """Of a list in JSON, or as a shell parts them; options, as `--from=build`, are left out."""
        rest = " ".join(word for word in self.text.split(" ") if not word.startswith("--"))
        return [str(word) for word in json.loads(rest)] if rest.startswith("[") else shlex.split(rest)

    @property
    def options(self) -> dict[str, str]:
        """Before the words, by their names."""
        found = [word for word in self.text.split(" ") if word.startswith("--")]
        return {name: value for name, _, value in (word[2:].partition("=") for word in found)}


@dataclass(frozen=True, slots=True)
class Stage:
    """`FROM parent AS name`, and what follows."""

    name: str | None
    parent: str
    instructions: Sequence[Instruction]

    def all(self, keyword: str) -> list[Instruction]:
        """Its instructions of a kind."""
        return [each for each in self.instructions if each.keyword == keyword]

    def one(self, keyword: str) -> Instruction:
        """Its only instruction of a kind."""
        (found,) = self.all(keyword)
        return found


def stages(**arguments: str) -> list[Stage]:
    """The stages, in order, with these build arguments over the file's own defaults in their `FROM`s."""
    defaults: dict[str, str] = {}
    found: list[Stage] = []
    body: list[Instruction] = []
    for each in _instructions(DOCKERFILE.read_text(encoding="utf-8")):
        if each.keyword == "ARG" and not found:
            name, _, value = each.text.partition("=")
            defaults[name] = arguments.get(name, value)
        elif each.keyword == "FROM":
            parent, *name_words = filled_in(each.text, defaults).split()
            body = []
            found.append(Stage(name_words[1] if name_words else None, parent, body))
        else:
            body.append(each)
    return found


def filled_in(text: str, variables: Mapping[str, str]) -> str:
    """A text with `$NAME` and `${NAME}` replaced. Raises KeyError for a name that has no value."""
    return _VARIABLE.sub(lambda match: variables[match[1] or match[2]], text)


def _instructions(text: str) -> list[Instruction]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    whole = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    parted = [line.partition(" ") for line in whole.splitlines() if line.strip()]
    return [Instruction(keyword, rest) for keyword, _, rest in parted]
