from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sluicegate.client.commands.batch_files import Item, ResultFile, read_items
from sluicegate.client.errors import ConfigurationError
from sluicegate.client.requests import GenerationConfig

DEFAULTS = GenerationConfig(temperature=0.5, top_k=40)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return tmp_path / "prompts.jsonl"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "results.jsonl"


def test_items_have_their_line_s_number_where_they_have_no_id(prompts: Path) -> None:
    prompts.write_text('{"prompt": "a"}\n\n{"id": "mine", "prompt": [1, 2], "purpose": "p"}\n{"prompt": "c"}')

    items = read_items(prompts, DEFAULTS)

    assert items == [
        Item("1", "a", DEFAULTS, None),
        Item("mine", [1, 2], DEFAULTS, "p"),
        Item("4", "c", DEFAULTS, None),
    ]


def test_an_item_s_config_comes_before_the_command_s(prompts: Path) -> None:
    prompts.write_text('{"prompt": "a", "config": {"temperature": 0, "logit_bias": {"7": -1.5}}}')

    (item,) = read_items(prompts, DEFAULTS)

    assert item.config == GenerationConfig(temperature=0, top_k=40, logit_bias={7: -1.5})


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("not json", "not JSON: Expecting value at column 1"),
        ("[]", "a line is a JSON object"),
        ('"text"', "a line is a JSON object"),
        ("{}", "`prompt` is a text or a list of token ids"),
        ('{"prompt": ""}', "`prompt` is"),
        ('{"prompt": []}', "`prompt` is"),
        ('{"prompt": [1, true]}', "`prompt` is"),
        ('{"prompt": ["a"]}', "`prompt` is"),
        ('{"prompt": 5}', "`prompt` is"),
        ('{"prompt": "a", "id": 5}', "`id` is"),
        ('{"prompt": "a", "id": ""}', "`id` is"),
        ('{"prompt": "a", "purpose": 5}', "`purpose` is"),
        ('{"prompt": "a", "promt": "b"}', "unknown key `promt`"),
        ('{"prompt": "a", "config": []}', "`config` is a JSON object"),
        ('{"prompt": "a", "config": {"topk": 1}}', "unknown key `config.topk`"),
        ('{"prompt": "a", "config": {"top_k": "forty"}}', "cannot be put into a message"),
        ('{"prompt": "a", "config": {"top_k": -1}}', "cannot be put into a message"),
        ('{"prompt": "a", "config": {"stop_sequences": 5}}', "cannot be put into a message"),
        ('{"prompt": "a", "config": {"logit_bias": [1]}}', "`config.logit_bias` is a JSON object"),
        ('{"prompt": "a", "config": {"logit_bias": {"x": 1}}}', "invalid literal"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_a_bad_line_is_named_with_what_is_wrong(prompts: Path, line: str, text: str) -> None:
    prompts.write_text('{"prompt": "good"}\n' + line)

    with pytest.raises(ConfigurationError) as caught:
        read_items(prompts, DEFAULTS)

    assert f"{prompts}:2: " in str(caught.value)
    assert text in str(caught.value)


def test_a_line_that_is_not_utf_8_is_named(prompts: Path) -> None:
    prompts.write_bytes(b'{"prompt": "\xff"}')

    with pytest.raises(ConfigurationError, match=":1: not UTF-8"):
        read_items(prompts, DEFAULTS)


def test_all_bad_lines_are_listed_up_to_a_bound(prompts: Path) -> None:
    prompts.write_text("bad\n" * 25)

    with pytest.raises(ConfigurationError) as caught:
        read_items(prompts, DEFAULTS)

    assert str(caught.value).count("not JSON") == 20
    assert str(caught.value).endswith("and 5 more")


def test_a_line_without_an_end_is_refused_and_not_read_to_it() -> None:
    with pytest.raises(ConfigurationError, match="1: longer than 4194304 bytes; nothing was sent"):
        read_items(Path("/dev/zero"), GenerationConfig())


def test_an_id_that_stands_twice_is_refused(prompts: Path) -> None:
    prompts.write_text('{"prompt": "a", "id": "2"}\n{"prompt": "b"}')

    with pytest.raises(ConfigurationError, match=r":2: id '2' stands in the file twice"):
        read_items(prompts, DEFAULTS)


def test_a_missing_input_is_named(prompts: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        read_items(prompts, DEFAULTS)


def test_results_are_whole_lines_at_once(output: Path) -> None:
    with ResultFile(output) as results:
        results.add("a", {"text": "é"})
        seen = output.read_text()
        results.add("b", {"error": {"code": "INTERNAL"}})

        assert json.loads(seen) == {"id": "a", "text": "é"}
        assert [results.has("a"), results.has("b"), results.has("c")] == [True, True, False]
        assert [results.has_succeeded("a"), results.has_succeeded("b")] == [True, False]


def test_a_second_run_knows_what_the_first_one_did_and_the_last_line_counts(output: Path) -> None:
    with ResultFile(output) as results:
        results.add("a", {"error": {}})
        results.add("a", {"text": "x"})
        results.add("b", {"error": {}})

    with ResultFile(output) as results:
        results.add("c", {"text": "y"})

        assert [results.has_succeeded(each) for each in "abc"] == [True, False, True]
    assert [json.loads(line)["id"] for line in output.read_text().splitlines()] == ["a", "a", "b", "c"]


@pytest.mark.parametrize("cut", range(1, 20))
def test_a_last_line_that_was_cut_off_is_removed(output: Path, cut: int) -> None:
    with ResultFile(output) as results:
        results.add("a", {"text": "x"})
        results.add("b", {"text": "y"})
    output.write_bytes(output.read_bytes()[:-cut])

    with ResultFile(output) as results:
        assert (results.has("a"), results.has("b")) == (True, False)
        results.add("b", {"text": "y"})

    assert [json.loads(line)["id"] for line in output.read_text().splitlines()] == ["a", "b"]


@pytest.mark.parametrize(
    "content", ["notes without a newline", "notes\n", '{"id": 5}\n', "[]\n", '{"id": "a", "text": ""}\nnotes', "\n"]
)
def test_a_file_of_something_else_is_refused_and_left_alone(output: Path, content: str) -> None:
    output.write_text(content)

    with pytest.raises(ConfigurationError, match="no result of a batch"):
        ResultFile(output)

    assert output.read_text() == content


def test_two_runs_do_not_write_one_file(output: Path) -> None:
    with ResultFile(output), pytest.raises(ConfigurationError, match="another run"):
        ResultFile(output)


def test_a_refused_file_can_be_opened_once_it_is_put_right(output: Path) -> None:
    output.write_text("notes\n")
    with pytest.raises(ConfigurationError):
        ResultFile(output)
    output.write_text("")

    with ResultFile(output) as results:
        assert not results.has("a")


def test_an_output_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        ResultFile(tmp_path / "absent" / "results.jsonl")


def test_an_output_that_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    for path in (Path("/dev/null"), pipe):
        with pytest.raises(ConfigurationError, match="is no regular file"):
            ResultFile(path)
