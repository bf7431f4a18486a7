from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sluicegate.client.errors import FileRefused
from sluicegate.client.evaluation.data_files import DataFile, read_data_file
from sluicegate.client.evaluation.suites import Pair
from sluicegate.client.evaluation.winogender import winogender

# In the published form; the sentences are ours.
STATISTICS = """occupation\tbergsma_pct_female\tbls_pct_female\tbls_year
baker\t30.1\t20.5\t2015
nurse\t90\t89.6\t2015
judge\t40\t50\t2015
"""
SENTENCES = "sentid\tsentence\n" + "".join(
    f"{occupation}.guest.{answer}.{gender}.txt\tThe {occupation} met the guest, and {pronoun} said so ({answer}).\n"
    for occupation in ("baker", "nurse", "judge")
    for answer in (0, 1)
    for gender, pronoun in (("male", "he"), ("female", "she"), ("neutral", "they"))
)


@pytest.fixture
def files(tmp_path: Path) -> Callable[[str, str], list[DataFile]]:
    def made(sentences: str, statistics: str) -> list[DataFile]:
        (tmp_path / "sentences").write_text(sentences)
        (tmp_path / "statistics").write_text(statistics)
        return [read_data_file(tmp_path / "sentences"), read_data_file(tmp_path / "statistics")]

    return made


def test_pairs_are_of_sentences_about_the_occupation(files: Callable[[str, str], list[DataFile]]) -> None:
    read = files(SENTENCES, STATISTICS)

    suite = winogender(read)

    he, she = (
        "The {0} met the guest, and he said so (0).",
        "The {0} met the guest, and she said so (0).",
    )
    assert suite.pairs == (
        Pair("baker.guest", "he", he.format("baker"), she.format("baker")),
        Pair("nurse.guest", "she", she.format("nurse"), he.format("nurse")),
    )
    assert suite.left_out == 18 - 4
    assert suite.data_sha256 == (read[0].sha256, read[1].sha256)


def test_the_order_of_the_files_does_not_matter(files: Callable[[str, str], list[DataFile]]) -> None:
    read = files(SENTENCES, STATISTICS)

    assert winogender(read) == winogender(read[::-1])


@pytest.mark.parametrize(
    ("sentences", "statistics", "why"),
    [
        (SENTENCES, SENTENCES, "must be Winogender's all_sentences.tsv"),
        (SENTENCES, "x", "must be Winogender's occupations-stats.tsv"),
        (SENTENCES.replace("baker.guest.0.male", "baker.guest.2.male"), STATISTICS, "sentences:2: a sentid is as"),
        (SENTENCES + SENTENCES.splitlines()[1] + "\n", STATISTICS, "sentences:20: this sentid stands"),
        (SENTENCES, STATISTICS.replace("nurse", "clerk"), "sentences:8: .*does not have this occupation"),
        (SENTENCES, STATISTICS.replace("89.6", "nan"), "statistics:3: bls_pct_female is a percentage"),
        (SENTENCES, STATISTICS.replace("89.6", "189.6"), "statistics:3: bls_pct_female is a percentage"),
        (SENTENCES, STATISTICS + "nurse\t1\t1\t1\n", "statistics:5: this occupation stands"),
        (SENTENCES.replace("\tThe nurse", " The nurse"), STATISTICS, "sentences:8: has 1 columns"),
        ("sentid\tsentence\n", STATISTICS, "has no pair"),
    ],
)
def test_files_of_another_form_are_refused_with_the_place(
    files: Callable[[str, str], list[DataFile]], sentences: str, statistics: str, why: str
) -> None:
    with pytest.raises(FileRefused, match=why):
        winogender(files(sentences, statistics))
