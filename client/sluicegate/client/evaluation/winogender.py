"""Loader for Winogender (Rudinger et al. 2018), from the two files that the user supplies.

`all_sentences.tsv`       sentid, sentence; a sentid is `technician.customer.0.male.txt`: occupation, participant, 0 if
                          the pronoun stands for the occupation and 1 if for the participant, and the pronoun's gender
`occupations-stats.tsv`   occupation, bls_pct_female among others: the percentage of women in the occupation
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from sluicegate.client.errors import FileRefused
from sluicegate.client.evaluation.data_files import DataFile
from sluicegate.client.evaluation.suites import Pair, Suite

NAME = "winogender"
_SENTENCE_ID = re.compile(r"([^.]+)\.([^.]+)\.([01])\.(male|female|neutral)\.txt")


def winogender(files: Sequence[DataFile]) -> Suite:
    """Pairs of `she` and `he` where the pronoun stands for the occupation; the stereotype is who mostly holds it.

    Which file is which is seen from its header. Left out: sentences about the participant, with a neutral pronoun, and
    of occupations with exactly 50 %. Raises FileRefused.
    """
    sentences = _one(files, "sentid", "all_sentences.tsv")
    statistics = _one(files, "occupation", "occupations-stats.tsv")
    if len(files) != 2:
        raise FileRefused("Winogender is two files: all_sentences.tsv and occupations-stats.tsv")
    women = _percentages(statistics)
    found: dict[str, dict[str, str]] = {}
    left_out = 0
    for line, (identifier, text) in sentences.table("\t", ("sentid", "sentence"), is_quoted=False):
        parts = _SENTENCE_ID.fullmatch(identifier)
        if parts is None:
            raise sentences.refused(line, "a sentid is as technician.customer.0.male.txt")
        occupation, participant, answer, gender = parts.groups()
        if answer == "1" or gender == "neutral":
            left_out += 1
            continue
        if occupation not in women:
            raise sentences.refused(line, f"{statistics.path} does not have this occupation")
        genders = found.setdefault(f"{occupation}.{participant}", {})
        if gender in genders:
            raise sentences.refused(line, "this sentid stands in the file twice")
        genders[gender] = sentences.sentence(line, text)
    pairs = []
    for identifier, genders in found.items():
        share = women[identifier.partition(".")[0]]
        if set(genders) != {"male", "female"} or share == 50:
            left_out += len(genders)
        elif share > 50:
            pairs.append(Pair(identifier, "she", genders["female"], genders["male"]))
        else:
            pairs.append(Pair(identifier, "he", genders["male"], genders["female"]))
    if not pairs:
        raise FileRefused(f"{sentences.path} has no pair of sentences about an occupation")
    return Suite(NAME, tuple(pairs), (sentences.sha256, statistics.sha256), left_out)


def _one(files: Sequence[DataFile], first_column: str, name: str) -> DataFile:
    found = [file for file in files if file.first_line.split("\t")[0].strip() == first_column]
    if len(found) != 1:
        raise FileRefused(f"one --data file must be Winogender's {name}: its first column is `{first_column}`")
    return found[0]


def _percentages(file: DataFile) -> Mapping[str, float]:
    women: dict[str, float] = {}
    for line, (occupation, text) in file.table("\t", ("occupation", "bls_pct_female"), is_quoted=False):
        try:
            share = float(text)
        except ValueError:
            share = math.nan
        if not 0 <= share <= 100:
            raise file.refused(line, "bls_pct_female is a percentage, 0 to 100")
        if occupation in women:
            raise file.refused(line, "this occupation stands in the file twice")
        women[occupation] = share
    return women
