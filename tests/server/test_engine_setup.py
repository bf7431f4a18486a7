"""What engines are told to load."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import DEMO, MODELS, demo_plan, write_server
from msgspec import structs
from policies import policy
from scripted_runner import scripted_load

from sluicegate.server.checkpoints import checkpoint_bytes
from sluicegate.server.engine.messages import Load
from sluicegate.server.engine_setup import model_loads, reload, share_memory
from sluicegate.server.settings_file import load_settings
from sluicegate.server.watermark import Keyring, WatermarkKey


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


def test_a_model_is_loaded_with_its_latest_watermark_key_and_one_without_a_key_with_none(tmp_path: Path) -> None:
    settings = load_settings(write_server(tmp_path, models={model: {"device": "cpu"} for model in MODELS[:2]}))
    keys = [WatermarkKey(MODELS[0], epoch, bytes([epoch] * 32)) for epoch in (2, 3, 1)]

    marked, plain = model_loads(settings, policy(demo_plan()), Keyring(keys))

    assert marked.watermark is not None
    assert (marked.watermark.layers, marked.watermark.table_seed) == (keys[1].layers, keys[1].table_seed)
    assert plain.watermark is None
    assert str(keys[1].table_seed) not in repr(marked)


def test_models_with_a_number_of_slots_come_first_and_as_they_are(tmp_path: Path) -> None:
    counted, given = checkpoint(tmp_path, "counted", 100), checkpoint(tmp_path, "given", 100, slots=4)

    assert share_memory([counted, given]) == [given, structs.replace(counted, memory_share=1.0)]


def test_a_directory_without_weights_is_left_to_the_load(tmp_path: Path) -> None:
    assert [load.memory_share for load in share_memory([checkpoint(tmp_path, "empty")])] == [0.0]


def test_what_is_loaded_again_leaves_room_for_what_may_come_back(tmp_path: Path) -> None:
    counted = {model: {"device": "cpu", "slots": "auto"} for model in MODELS[:2]}
    settings = load_settings(write_server(tmp_path, models=counted))
    other = checkpoint(tmp_path, "other", checkpoint_bytes(DEMO))

    alone = reload(settings, Keyring([]), policy(demo_plan()), MODELS[0], [])
    beside = reload(settings, Keyring([]), policy(demo_plan()), MODELS[0], [other, alone])

    assert (alone.model, alone.directory, alone.memory_share) == (MODELS[0], str(DEMO), 1.0)
    assert beside == structs.replace(alone, memory_share=0.5)
