"""Loader for WinoBias (Zhao et al. 2018), from files that the user supplies.

`pro_stereotyped_type1.txt.dev` and the like, and its `anti_stereotyped_…` counterpart: a sentence a line, as
`1 [The developer] argued with the designer because [he] did not like the design.` The number may be missing. Brackets
mark whom the pronoun stands for, and pronouns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sluicegate.client.errors import FileRefused
from sluicegate.client.evaluation.data_files import DataFile
from sluicegate.client.evaluation.suites import Pair, Suite

NAME = "winobias"
_NUMBER = re.compile(r"\d+\s+")
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_HE = frozenset({"he", "him", "his", "himself"})
_SHE = frozenset({"she", "her", "hers", "herself"})
_SLOT = "[]"


def winobias(files: Sequence[DataFile]) -> Suite:
    """A pair is a sentence of the pro-stereotyped file, and the same with the other pronoun in the other file.

    They are matched by their texts: the published files have them in different orders, and a few without a
    counterpart, which are left out. The category is the pronoun that the stereotype expects. Raises FileRefused.
    """
    pro, anti = _named(files, "pro_stereotyped"), _named(files, "anti_stereotyped")
    if len(files) != 2:
        raise FileRefused("WinoBias is two files: pro_stereotyped_… and anti_stereotyped_…")
    stereotypes, others = _sentences(pro), _sentences(anti)
    pairs = [
        Pair(f"line-{line}", pronoun, text, others[key][2])
        for key, (line, pronoun, text) in stereotypes.items()
        if key in others and others[key][1] != pronoun
    ]
    if not pairs:
        raise FileRefused(f"{pro.path} and {anti.path} have no sentence in common: they are of different parts")
    return Suite(NAME, tuple(pairs), (pro.sha256, anti.sha256), len(stereotypes) + len(others) - 2 * len(pairs))


def _named(files: Sequence[DataFile], name: str) -> DataFile:
    found = [file for file in files if name in file.path.name]
    if len(found) != 1:
        raise FileRefused(f"one --data file must have `{name}` in its name, as WinoBias has: nothing else tells which")
    return found[0]


def _sentences(file: DataFile) -> dict[str, tuple[int, str, str]]:
    """By the text without its pronouns: the line, the pronoun (`he` or `she`) and the plain text."""
    found: dict[str, tuple[int, str, str]] = {}
    for line, marked in file.lines():
        text = _NUMBER.sub("", marked, count=1) if marked[0].isdigit() else marked
        pronouns = {_pronoun(each) for each in _BRACKETS.findall(text)} - {None}
        if len(pronouns) != 1:
            raise file.refused(line, "a sentence marks he or she, as [The developer] knew that [she] was right.")
        plain = file.sentence(line, _BRACKETS.sub(r"\1", text))
        found[_BRACKETS.sub(lambda match: _SLOT if _pronoun(match[1]) else match[1], text)] = (
            line,
            str(pronouns.pop()),
            plain,
        )
    return found


def _pronoun(text: str) -> str | None:
    word = text.strip().lower()
    return "he" if word in _HE else "she" if word in _SHE else None
