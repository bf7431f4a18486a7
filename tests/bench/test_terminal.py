"""What the benches print."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import pytest

from bench import terminal
from bench.figures import Spread


def test_document_is_one_object_of_machine_options_and_results() -> None:
    options = Namespace(batch=[1, 8], directory=Path("/somewhere"), json=True)

    found = json.loads(terminal.document("step", options, {"rows": [Spread(2.0, 1.0, 3.0)]}))

    assert found["bench"] == "step"
    assert found["options"] == {"batch": [1, 8], "directory": "/somewhere"}
    assert found["rows"] == [{"median": 2.0, "lowest": 1.0, "highest": 3.0}]
    assert {"cpu", "flags", "cores", "versions", "date"} <= found["machine"].keys()


def test_table_has_its_first_column_left_and_the_others_right() -> None:
    text = terminal.table(["engine", "tokens/s"], [["a", "5"], ["a longer name", "12345"]])

    assert text.splitlines() == ["engine         tokens/s", "a                     5", "a longer name     12345"]


def test_interrupt_ends_the_program_with_a_word_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> int:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        terminal.run(main)

    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"
