"""Starts that must fail: at once, with status 1 and a line that says what to do."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from certificates import Authority
from deployment import DEMO_MODELS, Deployment, Hosted
from real_server import starting_server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

LONGEST_WAIT = 120.0  # on a busy machine; a file that cannot be used is found before anything is loaded


@pytest.fixture
def files(tmp_path: Path) -> Deployment:
    """A deployment that would start, with a checkpoint of its own."""
    shutil.copytree(DEMO_MODELS / "demo-xs", tmp_path / "model")
    return Deployment(tmp_path / "files", {"demo": Hosted(directory=tmp_path / "model")})


@pytest.fixture
def taken() -> Iterator[str]:
    """An address that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def assert_fails(deployment: Deployment, *sayings: str) -> None:
    with starting_server(deployment) as process:
        assert process.wait(LONGEST_WAIT) == 1
        for saying in sayings:
            assert saying in process.log
        assert any(line.startswith("sluicegate: ") for line in process.log.splitlines())
        assert "Traceback" not in process.log
        assert not process.events("serving")


def test_a_port_in_use(files: Deployment, taken: str) -> None:
    files.write_settings(listen=taken)

    assert_fails(files, f"listen: cannot listen on {taken}")


def test_a_metrics_port_in_use(files: Deployment, taken: str) -> None:
    files.write_settings(metrics={"listen": taken})

    assert_fails(files, f"metrics.listen: cannot listen on {taken}", "Address already in use")


def test_missing_weights(files: Deployment) -> None:
    directory = files.models["demo"].directory
    (directory / "model.safetensors").unlink()

    assert_fails(files, f"{directory} holds neither model.safetensors nor", "download the whole checkpoint")


def test_a_missing_checkpoint(files: Deployment) -> None:
    directory = files.models["demo"].directory
    shutil.rmtree(directory)

    assert_fails(files, f"there is no directory {directory}")


def test_weights_of_another_digest_than_the_policy_pins(files: Deployment) -> None:
    weights = files.models["demo"].directory / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-2] ^= 1
    weights.write_bytes(content)

    assert_fails(files, "the weights' sha256 is", "is pinned")


def test_a_missing_key_set_file(files: Deployment) -> None:
    files.key_set_file.unlink()

    assert_fails(files, f"tokens.issuers.0.keys.file: {files.key_set_file}: No such file or directory")


def test_a_key_set_that_is_none(files: Deployment) -> None:
    files.key_set_file.write_text("keys: none\n")

    assert_fails(files, "tokens.issuers.0.keys.file: ")


def _number_as_text(release: dict[str, Any]) -> str:
    release["models"]["demo"]["parameters"] = "many"
    return "models.demo.parameters"


def _unknown_audience(release: dict[str, Any]) -> str:
    release["stages"][0]["open"]["demo"] = "everybody"
    return "stages.0.open.demo"


def _unknown_stage(release: dict[str, Any]) -> str:
    release["active"] = "third"
    return "active"


def _unknown_member(release: dict[str, Any]) -> str:
    release["privte"] = {}
    return "privte"


@pytest.mark.parametrize("spoil", [_number_as_text, _unknown_audience, _unknown_stage, _unknown_member])
def test_a_policy_with_a_mistake(files: Deployment, spoil: Callable[[dict[str, Any]], str]) -> None:
    release = files.release()
    place = spoil(release)
    files.release_file.write_text(yaml.safe_dump(release))

    assert_fails(files, "release.yaml", place)


def test_settings_with_several_mistakes_are_told_all_at_once(files: Deployment) -> None:
    files.write_settings(listen="everywhere", drain={"grace_seconds": "long"}, colour="blue")

    assert_fails(files, "listen: expected HOST:PORT", "drain.grace_seconds: ", "colour: no such setting")


def test_a_model_that_the_policy_does_not_have(files: Deployment) -> None:
    files.write_settings(models={"another": {}})

    assert_fails(files, "models.another: the policy has no such model; it has demo")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def tls(certificate: Path, key: Path) -> dict[str, str]:
    return {"certificate": str(certificate), "key": str(key)}


def test_a_missing_certificate(files: Deployment, tmp_path: Path) -> None:
    files.write_settings(tls=tls(tmp_path / "none.pem", tmp_path / "none.key"))

    assert_fails(files, f"tls.certificate: {tmp_path / 'none.pem'} cannot be read", "tls.key: ")


def test_a_certificate_that_has_expired(files: Deployment, authority: Authority) -> None:
    certificate = authority.issue("server", lives=-timedelta(days=1))
    files.write_settings(tls=tls(certificate, certificate.with_suffix(".key")))

    assert_fails(files, f"tls.certificate: {certificate} expired on ")


def test_a_certificate_that_is_damaged(files: Deployment, authority: Authority) -> None:
    certificate = authority.issue("server")
    lines = certificate.read_text().splitlines()
    certificate.write_text("\n".join(lines[:3] + lines[-1:]))
    files.write_settings(tls=tls(certificate, certificate.with_suffix(".key")))

    assert_fails(files, f"tls.certificate: {certificate} is no PEM file of certificates")


def test_a_certificate_with_another_s_key(files: Deployment, authority: Authority) -> None:
    certificate, other = authority.issue("server"), authority.issue("other")
    files.write_settings(tls=tls(certificate, other.with_suffix(".key")))

    assert_fails(files, f"tls.key: {other.with_suffix('.key')} is not the key of the certificate")
