"""Certificates that are looked at for every connection: what that costs, and when they are judged again."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from structlog.testing import capture_logs

from sluicegate.server.certificate_files import CertificateFiles, Renewal


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def files(authority: Authority) -> CertificateFiles:
    certificate = authority.issue("server.example")
    return CertificateFiles("tls", certificate, certificate.with_suffix(".key"), authority.certificate)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The keys that were parsed, each as often as it was."""
    keys: list[bytes] = []

    def counted(data: bytes, password: bytes | None) -> Any:
        keys.append(data)
        return load_pem_private_key(data, password)

    monkeypatch.setattr("sluicegate.auth.certificates.load_pem_private_key", counted)
    return keys


@pytest.fixture
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    with capture_logs() as entries:
        yield entries


def problems(logs: list[MutableMapping[str, Any]]) -> int:
    return [entry["event"] for entry in logs].count("certificate_not_renewed")


def test_connections_parse_no_key_while_the_files_stay(files: CertificateFiles, parsed: list[bytes]) -> None:
    renewal = Renewal(files)
    parsed.clear()

    assert [renewal.renewed() for _ in range(100)] == [None] * 100
    assert parsed == []


def test_a_renewed_key_is_parsed_once(authority: Authority, files: CertificateFiles, parsed: list[bytes]) -> None:
    renewal = Renewal(files)
    parsed.clear()

    authority.issue("server.example")
    found = [renewal.renewed() for _ in range(100)]

    assert found == [renewal.last] + [None] * 99
    assert parsed == [files.key.read_bytes()]


def test_a_bad_file_is_judged_and_told_of_once_until_it_changes(
    authority: Authority, files: CertificateFiles, parsed: list[bytes], logs: list[MutableMapping[str, Any]]
) -> None:
    renewal = Renewal(files)
    parsed.clear()

    files.key.write_bytes(authority.issue("other.example").with_suffix(".key").read_bytes())
    assert [renewal.renewed() for _ in range(100)] == [None] * 100
    assert (len(parsed), problems(logs)) == (1, 1)

    files.key.write_text("half a fi")
    assert [renewal.renewed() for _ in range(100)] == [None] * 100
    assert (len(parsed), problems(logs)) == (2, 2)

    authority.issue("server.example")
    assert renewal.renewed() is renewal.last
    assert len(parsed) == 3


def test_files_that_are_as_they_were_need_no_second_look(
    files: CertificateFiles, parsed: list[bytes], logs: list[MutableMapping[str, Any]]
) -> None:
    renewal = Renewal(files)
    good = files.key.read_bytes()
    files.key.write_text("half a fi")
    renewal.renewed()
    parsed.clear()

    files.key.write_bytes(good)

    assert renewal.renewed() is None
    assert parsed == []

    files.key.write_text("half a fi")
    renewal.renewed()
    assert problems(logs) == 2


def test_a_file_that_comes_and_goes_does_not_bring_the_cost_back(
    files: CertificateFiles, parsed: list[bytes], logs: list[MutableMapping[str, Any]]
) -> None:
    renewal = Renewal(files)
    files.key.write_text("half a fi")
    renewal.renewed()
    parsed.clear()

    files.key.rename(files.key.with_suffix(".away"))
    renewal.renewed()
    files.key.with_suffix(".away").rename(files.key)

    assert renewal.renewed() is None
    assert parsed == []
    assert problems(logs) == 2
