"""What `serve --check` finds wrong with the files that the settings name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from harness import tls_settings, write_server

from sluicegate.server.errors import SettingsError
from sluicegate.server.file_checks import check_files
from sluicegate.server.settings_file import load_settings


def check(directory: Path, **settings: Any) -> None:
    check_files(load_settings(write_server(directory, **settings)))


def test_good_files_pass(tmp_path: Path) -> None:
    tls = tls_settings(Authority(tmp_path), with_clients=True)
    (tmp_path / "password").write_text("correct-horse-battery")
    (tmp_path / "password").chmod(0o600)

    check(tmp_path, tls=tls, metrics={"tls": tls, "basic_auth": {"user": "prometheus", "password_file": "password"}})


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    tls = tls_settings(Authority(tmp_path))

    with pytest.raises(SettingsError) as caught:
        check(tmp_path, tls={**tls, "key": tls["certificate"]}, metrics={"tls": {**tls, "certificate": "nowhere.pem"}})

    assert [problem.partition(": ")[0] for problem in caught.value.problems] == [
        "metrics.tls.certificate",
        "tls.key",
    ]


def test_a_missing_password_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"metrics\.basic_auth\.password_file: .*: No such file"):
        check(tmp_path, metrics={"basic_auth": {"user": "prometheus", "password_file": "nowhere"}})
