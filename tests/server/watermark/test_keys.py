"""Watermark keys: made, read, told apart, and never shown."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sluicegate.server.watermark import Keyring, WatermarkKey, WatermarkKeyError, create_key, read_keys
from sluicegate.server.watermark.keys import KIND, MOST_KEYS
from sluicegate.server.watermark.scheme import DEPTH

KEY = WatermarkKey("gpt2-774m", 3, bytes(range(32)))
GOOD: dict[str, Any] = {"kind": KIND, "model": "gpt2-774m", "epoch": 3, "secret": KEY.secret.hex()}


def write(directory: Path, document: Any, name: str = "key.json", mode: int = 0o600) -> Path:
    path = directory / name
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    path.chmod(mode)
    return path


def test_a_key_that_was_made_is_read_as_it_was(tmp_path: Path) -> None:
    made, path = create_key(tmp_path, "gpt2-774m")

    assert read_keys(tmp_path) == [made]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(set(made.secret)) > 8


def test_the_next_key_of_a_model_is_of_the_next_epoch(tmp_path: Path) -> None:
    create_key(tmp_path, "gpt2-774m", 7)

    assert create_key(tmp_path, "gpt2-774m")[0].epoch == 8
    assert create_key(tmp_path, "gpt2-355m")[0].epoch == 1


@pytest.mark.parametrize(("model", "epoch"), [("gpt2-774m", 1), ("gpt2-774m", 0), ("GPT-2", 5), ("../up", 5), ("", 5)])
def test_no_key_takes_the_place_of_another_or_gets_a_name_that_is_none(tmp_path: Path, model: str, epoch: int) -> None:
    create_key(tmp_path, "gpt2-774m", 1)

    with pytest.raises(WatermarkKeyError, match="epoch from 1"):
        create_key(tmp_path, model, epoch)


def test_what_is_derived_depends_on_secret_model_and_epoch() -> None:
    others = [replace(KEY, model="gpt2-355m"), replace(KEY, epoch=4), replace(KEY, secret=bytes(32))]

    for other in others:
        assert other.id != KEY.id
        assert other.table_seed != KEY.table_seed
        assert not set(other.layers) & set(KEY.layers)
    assert len(set(KEY.layers)) == DEPTH
    assert all(0 <= layer < 2**63 for layer in KEY.layers)


def test_what_is_derived_stays_what_it_is() -> None:
    """Texts that were marked must be found by later versions, too."""
    assert KEY.id == "wm-0fd704e860a8807f"
    assert (KEY.layers[0], KEY.layers[-1], KEY.table_seed) == (3609091434195910706, 4476790107321712307, 2632087936)


def test_a_key_shows_nothing_of_its_secret() -> None:
    assert KEY.secret.hex() not in repr(KEY)
    assert str(list(KEY.secret))[1:-1] not in repr(KEY)
    assert "secret" not in repr(KEY)


def test_the_latest_key_marks_and_all_are_looked_for() -> None:
    keys = [replace(KEY, epoch=epoch) for epoch in (2, 10, 9)]
    keyring = Keyring([*keys, replace(KEY, model="gpt2-355m", epoch=11)])

    assert keyring.marks("gpt2-774m") == keys[1]
    assert [key.epoch for key in keyring.all("gpt2-774m")] == [2, 9, 10]
    assert keyring.marks("gpt2-124m") is None
    assert keyring.all("gpt2-124m") == ()


@pytest.mark.parametrize(
    "document",
    [
        "",
        "[]",
        "{",
        '{"a":' * 10_000,
        "x" * 5_000,
        {**GOOD, "kind": "sluicegate/watermark-key/v2"},
        {**GOOD, "model": "GPT-2"},
        {**GOOD, "epoch": 0},
        {**GOOD, "epoch": True},
        {**GOOD, "epoch": "3"},
        {**GOOD, "epoch": 3.0},
        {**GOOD, "secret": KEY.secret.hex().upper()},
        {**GOOD, "secret": KEY.secret.hex()[:-2]},
        {**GOOD, "note": ""},
        {name: value for name, value in GOOD.items() if name != "model"},
    ],
    ids=lambda document: str(document)[:40],
)
def test_a_file_that_is_no_key_is_refused_without_being_quoted(tmp_path: Path, document: Any) -> None:
    write(tmp_path, document)

    with pytest.raises(WatermarkKeyError, match=r"key.json is no watermark key") as refused:
        read_keys(tmp_path)

    assert KEY.secret.hex()[:16] not in str(refused.value).lower()
    assert refused.value.__cause__ is None


def test_two_keys_of_one_model_and_epoch_are_refused(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "a.json")
    write(tmp_path, {**GOOD, "secret": "00" * 32}, "b.json")

    with pytest.raises(WatermarkKeyError, match="another file"):
        read_keys(tmp_path)


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o644])
def test_a_key_that_everybody_could_read_is_refused(tmp_path: Path, mode: int) -> None:
    write(tmp_path, GOOD, mode=mode)

    with pytest.raises(WatermarkKeyError, match="chmod o-rwx"):
        read_keys(tmp_path)


def test_a_secret_as_kubernetes_mounts_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "..2026").mkdir()
    write(tmp_path / "..2026", GOOD, mode=0o440)
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "key.json").symlink_to("..data/key.json")
    (tmp_path / "README").write_text("no key")

    assert read_keys(tmp_path) == [KEY]


def test_a_directory_that_is_none_and_one_that_is_too_full_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WatermarkKeyError, match="No such file"):
        read_keys(tmp_path / "none")

    for number in range(MOST_KEYS + 1):
        write(tmp_path, GOOD, f"{number}.json")
    with pytest.raises(WatermarkKeyError, match=f"a server takes {MOST_KEYS}"):
        read_keys(tmp_path)
