from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from harness import DEMO

from sluicegate.auth import Audience, load_policy, parse_key_set, read_signing_key
from sluicegate.server.audit import read_key, read_secret
from sluicegate.server.errors import ServerError, SettingsError
from sluicegate.server.scaffold import PARAMETERS, write_scaffold
from sluicegate.server.settings_file import load_settings

DIGEST = "7148071bced7e05e3874895f62be0c1e261eb76d8cabc6707b96054fcd2c1efd"


def test_the_first_model_is_public_and_the_others_are_internal(tmp_path: Path) -> None:
    written = write_scaffold(
        tmp_path / "new", [("gpt2-124m", "openai-community/gpt2"), ("gpt2-355m", "openai-community/gpt2-medium")]
    )

    policy = load_policy(tmp_path / "new/policy", None)
    assert written.models == ("gpt2-124m", "gpt2-355m")
    assert dict(policy.stage.open) == {"gpt2-124m": Audience.PUBLIC, "gpt2-355m": Audience.INTERNAL}
    assert policy.models["gpt2-355m"].parameters == PARAMETERS["openai-community/gpt2-medium"]
    assert not policy.serves_anonymous


def test_a_directory_is_named_whole_and_its_weights_are_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DEMO.parent)

    written = write_scaffold(tmp_path / "new", [("demo-xs", "./demo-xs")])

    model = written.policy.models["demo-xs"]
    assert (model.source, model.weights_sha256) == (str(DEMO), DIGEST)
    assert model.parameters == 411_392


def test_its_settings_are_good_and_believe_its_key(tmp_path: Path) -> None:
    write_scaffold(tmp_path / "new", [("gpt2-124m", "openai-community/gpt2")])

    settings = load_settings(tmp_path / "new/sluicegate.yaml")

    key = read_signing_key(tmp_path / "new/issuer.jwk")
    file = settings.tokens.issuers[0].keys.file
    assert file is not None
    assert set(parse_key_set(file.read_bytes())) == {key.key_id}
    assert "d" not in json.loads(file.read_bytes())["keys"][0]


def test_only_its_owner_reads_the_private_key(tmp_path: Path) -> None:
    write_scaffold(tmp_path / "new", [("gpt2-124m", "openai-community/gpt2")])

    assert stat.S_IMODE((tmp_path / "new/issuer.jwk").stat().st_mode) == 0o600


def test_its_audit_log_has_a_key_and_a_secret_of_its_own(tmp_path: Path) -> None:
    write_scaffold(tmp_path / "new", [("gpt2-124m", "openai-community/gpt2")])

    audit = load_settings(tmp_path / "new/sluicegate.yaml").audit
    assert audit != "off"
    assert read_key(audit.key).public_key() is not None
    assert len(read_secret(audit.secret)) == 32
    assert [stat.S_IMODE(path.stat().st_mode) for path in (audit.key, audit.secret)] == [0o600] * 2


def test_an_empty_directory_is_taken(tmp_path: Path) -> None:
    write_scaffold(tmp_path, [("gpt2-124m", "openai-community/gpt2")])

    assert (tmp_path / "sluicegate.yaml").is_file()


def test_a_directory_in_use_is_not(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()

    with pytest.raises(SettingsError, match="name a new directory"):
        write_scaffold(tmp_path, [("gpt2-124m", "openai-community/gpt2")])


def test_a_source_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="no such directory, and none of openai-community/gpt2, "):
        write_scaffold(tmp_path / "new", [("other", "owner/other")])
