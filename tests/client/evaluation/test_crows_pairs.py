from __future__ import annotations

from pathlib import Path

import pytest

from sluicegate.client.errors import FileRefused
from sluicegate.client.evaluation.crows_pairs import crows_pairs
from sluicegate.client.evaluation.data_files import DataFile, read_data_file
from sluicegate.client.evaluation.suites import Pair

# In the published form; the sentences are ours.
HEADER = ",sent_more,sent_less,stereo_antistereo,bias_type,annotations,anon_writer,anon_annotators\n"
ROWS = """0,"The old, they said, are slow.","The young, they said, are slow.",stereo,age,"[['age']]",a0,"['a1', 'b']"
1,The rich sang.,The poor sang.,antistereo,socioeconomic,[],a0,[]
2,The same.,The same.,stereo,gender,[],a0,[]
"""


def file(folder: Path, text: str) -> DataFile:
    path = folder / "crows_pairs_anonymized.csv"
    path.write_text(text)
    return read_data_file(path)


def test_a_row_is_a_pair_and_sent_more_is_the_stereotype_in_either_direction(tmp_path: Path) -> None:
    read = file(tmp_path, HEADER + ROWS)

    suite = crows_pairs([read])

    assert suite.pairs == (
        Pair("row-0", "age", "The old, they said, are slow.", "The young, they said, are slow."),
        Pair("row-1", "socioeconomic", "The rich sang.", "The poor sang."),
    )
    assert (suite.left_out, suite.data_sha256) == (1, (read.sha256,))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (HEADER.replace("bias_type", "type") + ROWS, ":1: needs the columns"),
        (HEADER + ROWS.replace("antistereo", "anti"), ":3: stereo_antistereo is"),
        (HEADER + ROWS.replace("socioeconomic", "economic"), ":3: bias_type is one of age"),
        (HEADER + ROWS.replace("The rich sang.", ""), ":3: a sentence has"),
        (HEADER, "has no rows"),
    ],
)
def test_a_file_of_another_form_is_refused_with_the_place(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(FileRefused, match=why):
        crows_pairs([file(tmp_path, text)])


def test_it_is_one_file(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match="is one file"):
        crows_pairs([file(tmp_path, HEADER + ROWS)] * 2)
