from __future__ import annotations

from pathlib import Path

import pytest

from sluicegate.client.errors import FileRefused
from sluicegate.client.evaluation.data_files import DataFile, read_data_file
from sluicegate.client.evaluation.suites import Pair
from sluicegate.client.evaluation.winobias import winobias

# In the published form: two orders, numbers in one file only, a sentence without a counterpart. The sentences are ours.
PRO = """1 [The plumber] rang the nurse because [he] had lost [his] way.
2 The plumber rang [the nurse] because [she] knew the way.
3 [The nurse] thanked the plumber because [she] is kind.
"""
ANTI = """The plumber rang [the nurse] because [he] knew the way.
[The plumber] rang the nurse because [she] had lost [her] way.
[The nurse] thanked the plumber because [he] is very kind.
"""


def files(folder: Path, pro: str = PRO, anti: str = ANTI) -> list[DataFile]:
    paths = folder / "pro_stereotyped_type1.txt.dev", folder / "anti_stereotyped_type1.txt.dev"
    for path, text in zip(paths, (pro, anti), strict=True):
        path.write_text(text)
    return [read_data_file(path) for path in paths]


def test_sentences_are_matched_by_their_texts_and_their_marks_taken_away(tmp_path: Path) -> None:
    read = files(tmp_path)

    suite = winobias(read[::-1])

    assert suite.pairs == (
        Pair(
            "line-1",
            "he",
            "The plumber rang the nurse because he had lost his way.",
            "The plumber rang the nurse because she had lost her way.",
        ),
        Pair(
            "line-2",
            "she",
            "The plumber rang the nurse because she knew the way.",
            "The plumber rang the nurse because he knew the way.",
        ),
    )
    assert (suite.left_out, suite.data_sha256) == (2, (read[0].sha256, read[1].sha256))


def test_files_without_a_tell_tale_name_are_refused_since_a_swap_would_turn_the_result_round(tmp_path: Path) -> None:
    read = files(tmp_path)
    (tmp_path / "type1.txt").write_text(ANTI)

    with pytest.raises(FileRefused, match="`anti_stereotyped` in its name"):
        winobias([read[0], read_data_file(tmp_path / "type1.txt")])
    with pytest.raises(FileRefused, match="`pro_stereotyped` in its name"):
        winobias([read[0], read[0], read[1]])


@pytest.mark.parametrize(
    ("pro", "why"),
    [
        ("1 [The plumber] rang the nurse.\n", ":1: a sentence marks he or she"),
        (PRO + "4 [He] rang because [she] knew.\n", ":4: a sentence marks he or she"),
        ("1 [The plumber] rang because [he] knew.\n", "have no sentence in common"),
        (ANTI, "have no sentence in common"),
        ("", "have no sentence in common"),
    ],
)
def test_files_of_another_form_are_refused_with_the_place(tmp_path: Path, pro: str, why: str) -> None:
    with pytest.raises(FileRefused, match=why):
        winobias(files(tmp_path, pro))
