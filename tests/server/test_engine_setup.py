"""What engines are told to load."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs
from scripted_runner import scripted_load

from sluicegate.server.engine.messages import Load
from sluicegate.server.engine_setup import share_memory


def checkpoint(directory: Path, name: str, *sizes: int, slots: int | None = None) -> Load:
    """A Load of a model whose weights are in files of these sizes."""
    (directory / name).mkdir()
    (directory / name / "config.json").write_bytes(bytes(999))
    for number, size in enumerate(sizes):
        (directory / name / f"model-{number}.safetensors").write_bytes(bytes(size))
    return scripted_load(name, slots=slots, directory=str(directory / name))


def test_models_whose_slots_are_counted_share_by_size_what_is_free_when_their_turn_comes(tmp_path: Path) -> None:
    small, large = checkpoint(tmp_path, "small", 100), checkpoint(tmp_path, "large", 200, 100)
    middle = checkpoint(tmp_path, "middle", 200)

    shares = [load.memory_share for load in share_memory([small, large, middle])]

    assert shares == pytest.approx([1 / 6, 3 / 5, 1])


def test_models_with_a_number_of_slots_come_first_and_as_they_are(tmp_path: Path) -> None:
    counted, given = checkpoint(tmp_path, "counted", 100), checkpoint(tmp_path, "given", 100, slots=4)

    assert share_memory([counted, given]) == [given, structs.replace(counted, memory_share=1.0)]


def test_a_directory_without_weights_is_left_to_the_load(tmp_path: Path) -> None:
    assert [load.memory_share for load in share_memory([checkpoint(tmp_path, "empty")])] == [0.0]
