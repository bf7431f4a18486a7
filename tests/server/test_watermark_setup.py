"""Watermark keys as the settings name them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluicegate.server.config import Watermark
from sluicegate.server.errors import SettingsError
from sluicegate.server.watermark import create_key
from sluicegate.server.watermark_setup import keyring_of


def test_without_the_section_there_is_no_key() -> None:
    assert keyring_of(None).marks("gpt2-124m") is None


def test_every_key_of_the_directory_is_there(tmp_path: Path) -> None:
    first, second = create_key(tmp_path, "gpt2-124m")[0], create_key(tmp_path, "gpt2-124m")[0]

    keyring = keyring_of(Watermark(keys=tmp_path))

    assert keyring.all("gpt2-124m") == (first, second)


def test_a_directory_without_keys_is_no_way_to_switch_watermarks_off(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"watermark.keys: .* holds no key; run: sluicegate watermark new-key"):
        keyring_of(Watermark(keys=tmp_path))


def test_a_bad_key_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text("{}")
    (tmp_path / "key.json").chmod(0o600)

    with pytest.raises(SettingsError, match=r"watermark.keys: .*key.json is no watermark key"):
        keyring_of(Watermark(keys=tmp_path))
