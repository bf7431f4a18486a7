from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from sluicegate.server.config import Algorithm
from sluicegate.server.errors import SettingsError
from sluicegate.server.settings_file import MAX_SETTINGS_BYTES, SETTINGS_FILE_VARIABLE, load_settings

MINIMAL: dict[str, Any] = {
    "policy": {"directory": "policy", "signatures": "off"},
    "tokens": {
        "issuers": [{"issuer": "https://i.example", "audience": "https://a.example", "keys": {"file": "jwks.json"}}]
    },
    "models": {"gpt2-124m": {}},
    "audit": "off",
}
SIGNER = {"id": "release-lead", "public_key": "A" * 43}


def write(directory: Path, content: Any) -> Path:
    path = directory / "sluicegate.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def problems(path: Path, overrides: dict[str, object] | None = None) -> list[str]:
    """The problems of a file, without its name."""
    with pytest.raises(SettingsError) as caught:
        load_settings(path, overrides)
    assert all(problem.startswith(str(path)) for problem in caught.value.problems)
    return [problem.removeprefix(f"{path}: ") for problem in caught.value.problems]


def changed(**sections: Any) -> dict[str, Any]:
    return {**MINIMAL, **sections}


def test_a_small_file_is_enough(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, MINIMAL))

    assert (settings.listen, settings.metrics.listen) == ("127.0.0.1:50051", "127.0.0.1:9464")
    assert settings.policy.signatures == "off"
    assert settings.models["gpt2-124m"].slots == 16
    assert settings.tokens.issuers[0].algorithms == (Algorithm.ES256,)


def test_a_bare_off_of_yaml_means_off(tmp_path: Path) -> None:
    text = yaml.safe_dump(MINIMAL).replace("'off'", "off")

    assert "signatures: off" in text
    assert load_settings(write(tmp_path, text)).policy.signatures == "off"


def test_an_audit_log_must_be_decided_on(tmp_path: Path) -> None:
    without = {name: value for name, value in MINIMAL.items() if name != "audit"}
    off = yaml.safe_dump(MINIMAL).replace("audit: 'off'", "audit: off")

    assert problems(write(tmp_path, without)) == ["audit: missing"]
    assert load_settings(write(tmp_path, off)).audit == "off"


@pytest.mark.parametrize("value", ["on", True, 5, ["off"]])
@pytest.mark.parametrize("setting", ["audit", "signatures"])
def test_a_section_that_may_be_off_is_nothing_else(tmp_path: Path, setting: str, value: object) -> None:
    changes = {"audit": value} if setting == "audit" else {"policy": {"directory": "policy", "signatures": value}}
    place = "audit" if setting == "audit" else "policy.signatures"

    assert problems(write(tmp_path, changed(**changes))) == [f"{place}: expected a section, or off"]


def test_a_section_that_may_be_off_tells_what_is_wrong_inside_it_and_no_more(tmp_path: Path) -> None:
    told = problems(write(tmp_path, changed(audit={"directory": "audit", "key": "k", "sekret": "s"})))

    assert told == ["audit.secret: missing", "audit.sekret: no such setting"]


def test_an_audit_logs_files_are_relative_to_the_settings(tmp_path: Path) -> None:
    terms = {"directory": "audit", "key": "audit.jwk", "secret": "/etc/audit.secret"}

    audit = load_settings(write(tmp_path, changed(audit=terms))).audit

    assert audit != "off"
    assert (audit.directory, audit.key) == (tmp_path / "audit", tmp_path / "audit.jwk")
    assert (audit.secret, audit.replica) == (Path("/etc/audit.secret"), socket.gethostname())


def test_settings_cannot_be_changed_later(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, MINIMAL))

    with pytest.raises(ValidationError):
        settings.limits.queued_requests = 1


def test_paths_are_relative_to_the_file_wherever_the_process_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path / "elsewhere"))
    tls = {"certificate": "tls/server.pem", "key": "/run/server.key", "client_ca": "~/ca.pem"}
    write(tmp_path, changed(tls=tls))

    settings = load_settings(Path("../sluicegate.yaml"))

    assert settings.policy.directory == tmp_path / "policy"
    assert settings.tokens.issuers[0].keys.file == tmp_path / "jwks.json"
    assert settings.tls is not None
    assert settings.tls.certificate == tmp_path / "tls/server.pem"
    assert settings.tls.key == Path("/run/server.key")
    assert settings.tls.client_ca == tmp_path / "elsewhere/ca.pem"


def test_the_environment_may_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTINGS_FILE_VARIABLE, str(write(tmp_path, MINIMAL)))

    assert load_settings(None).policy.directory == tmp_path / "policy"


@pytest.mark.parametrize("value", [None, ""])
def test_somebody_must_name_it(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is None:
        monkeypatch.delenv(SETTINGS_FILE_VARIABLE, raising=False)
    else:
        monkeypatch.setenv(SETTINGS_FILE_VARIABLE, value)

    with pytest.raises(SettingsError, match="no settings file: give --config FILE or set SLUICEGATE_CONFIG"):
        load_settings(None)


def test_overrides_win_over_the_file_and_leave_the_rest(tmp_path: Path) -> None:
    path = write(tmp_path, changed(listen="127.0.0.1:1", log={"level": "debug"}))

    settings = load_settings(path, {"listen": "127.0.0.1:2", "metrics.listen": "127.0.0.1:3", "log.format": "console"})

    assert (settings.listen, settings.metrics.listen) == ("127.0.0.1:2", "127.0.0.1:3")
    assert (settings.log.level, settings.log.format) == ("debug", "console")


def test_a_bad_override_is_told_like_a_bad_setting(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)

    assert problems(path, {"log.format": "xml", "listen": "nowhere"}) == [
        "listen: expected HOST:PORT, [IPv6]:PORT or unix:/PATH",
        "log.format: Input should be 'json' or 'console'",
    ]


def test_all_problems_are_told_at_once_with_their_paths(tmp_path: Path) -> None:
    bad = {
        "listn": "127.0.0.1:1",
        "policy": {"directory": "policy"},
        "tokens": {"issuers": [{"issuer": "", "audience": "a", "keys": {}}], "max_lifetime_seconds": "3600"},
        "models": {"gpt2-124m": {"slots": 0, "dvice": "cpu"}},
        "limits": {"call_seconds": -1},
    }

    told = problems(write(tmp_path, bad))

    assert {problem.partition(": ")[0] for problem in told} == {
        "listn",
        "audit",
        "policy.signatures",
        "tokens.issuers.0.issuer",
        "tokens.issuers.0.keys",
        "tokens.max_lifetime_seconds",
        "models.gpt2-124m.slots",
        "models.gpt2-124m.dvice",
        "limits.call_seconds",
    }
    assert "listn: no such setting" in told
    assert "policy.signatures: missing" in told
    assert "tokens.issuers.0.keys: give exactly one of file, url and discovery: true" in told


def hosting(**models: Any) -> dict[str, Any]:
    """Settings with these models; a name stands for a model that it drafts with."""

    def hosted(model: Any) -> dict[str, Any]:
        return {"speculation": {"draft": model}} if isinstance(model, str) else model

    return changed(models={name: hosted(model) for name, model in models.items()})


def test_models_that_draft_are_loaded_before_those_that_they_draft_for(tmp_path: Path) -> None:
    path = write(tmp_path, hosting(large="middle", other={}, middle="small", looks="prompt_lookup", small={}))

    order = load_settings(path).load_order

    assert sorted(order) == ["large", "looks", "middle", "other", "small"]
    assert order.index("small") < order.index("middle") < order.index("large")


@pytest.mark.parametrize(
    ("models", "told"),
    [
        ({"large": "smal", "small": {}}, "models.large.speculation.draft: smal is not among the models"),
        (
            {"large": "small", "small": {"device": "cpu"}},
            "models.large.speculation.draft: small is on another device; write the same device for both",
        ),
        (
            {"large": "small", "small": {"slots": "auto"}},
            "models.large.speculation.draft: small has slots: auto; write a number there, or auto for large too",
        ),
        ({"large": "large"}, "models: large for large is a circle of drafts"),
        ({"a": "b", "b": "c", "c": "a"}, "is a circle of drafts; a smaller model drafts for a larger"),
    ],
)
def test_a_draft_that_cannot_be_says_what_to_do(tmp_path: Path, models: dict[str, Any], told: str) -> None:
    (problem,) = problems(write(tmp_path, hosting(**models)))

    assert told in problem


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a replica of two words": (
        {"audit": {"directory": "a", "key": "k", "secret": "s", "replica": "gate 0"}},
        "audit.replica: ",
    ),
    "no port": ({"listen": "127.0.0.1"}, "listen"),
    "a port too large": ({"listen": "127.0.0.1:65536"}, "listen"),
    "a number for an address": ({"listen": 50051}, "listen"),
    "IPv6 without brackets": ({"listen": "::1:50051"}, "listen"),
    "a relative socket": ({"listen": "unix:socket"}, "listen"),
    "a number as text": ({"models": {"a": {"slots": "16"}}}, "models.a.slots"),
    "no slots": ({"models": {"a": {"slots": 0}}}, "models.a.slots: expected a number from 1 to 4,096, or auto"),
    "another word for slots": ({"models": {"a": {"slots": "all"}}}, "models.a.slots"),
    "truth for a number": ({"models": {"a": {"slots": True}}}, "models.a.slots"),
    "a number for truth": ({"reflection": 1}, "reflection"),
    "truth for seconds": ({"limits": {"call_seconds": True}}, "limits.call_seconds"),
    "no seconds": ({"limits": {"call_seconds": 0}}, "limits.call_seconds"),
    "endless seconds": ({"limits": {"call_seconds": float("inf")}}, "limits.call_seconds"),
    "no number": ({"limits": {"call_seconds": float("nan")}}, "limits.call_seconds"),
    "no number to drain": ({"drain": {"announce_seconds": float("nan")}}, "drain.announce_seconds"),
    "an endless drain": ({"drain": {"grace_seconds": float("inf")}}, "drain.grace_seconds"),
    "no queue": ({"limits": {"queued_requests": 0}}, "limits.queued_requests"),
    "no share": ({"limits": {"queued_share": 0}}, "limits.queued_share"),
    "more than all": ({"limits": {"queued_share": 1.5}}, "limits.queued_share"),
    "no calls": ({"limits": {"peer_calls_per_minute": 0}}, "limits.peer_calls_per_minute"),
    "a network of everybody": ({"limits": {"peer_ipv4_prefix": 0}}, "limits.peer_ipv4_prefix"),
    "a proxy known by nothing": ({"trusted_proxies": [{}]}, "trusted_proxies.0"),
    "a proxy known by two things": (
        {"trusted_proxies": [{"name": "proxy.example", "thumbprint": "A" * 43}]},
        "trusted_proxies.0",
    ),
    "a thumbprint in hexadecimal": ({"trusted_proxies": [{"thumbprint": "ab" * 32}]}, "trusted_proxies.0.thumbprint"),
    "a proxy by its address alone": ({"trusted_proxies": [{"networks": ["10.0.0.5"]}]}, "trusted_proxies.0"),
    "a network with host bits": (
        {"trusted_proxies": [{"name": "proxy.example", "networks": ["10.0.0.5/24"]}]},
        "trusted_proxies.0.networks.0",
    ),
    "a trusted proxy without TLS": ({"trusted_proxies": [{"name": "proxy.example"}]}, "settings"),
    "a trusted proxy that shows no certificate": (
        {"trusted_proxies": [{"name": "proxy.example"}], "tls": {"certificate": "a", "key": "b"}},
        "settings",
    ),
    "messages too small": ({"limits": {"message_bytes": 65_535}}, "limits.message_bytes"),
    "metadata too small for a token": ({"limits": {"metadata_bytes": 8_191}}, "limits.metadata_bytes"),
    "another device": ({"models": {"a": {"device": "tpu"}}}, "models.a.device"),
    "another number format": ({"models": {"a": {"dtype": "float16"}}}, "models.a.dtype"),
    "a draft of nothing": ({"models": {"a": {"speculation": {"draft": "prompt_lookup", "tokens": 0}}}}, "models.a."),
    "too much of a draft": ({"models": {"a": {"speculation": {"draft": "prompt_lookup", "tokens": 17}}}}, "models.a."),
    "a draft by nobody": ({"models": {"a": {"speculation": {}}}}, "models.a.speculation.draft"),
    "no models": ({"models": {}}, "models"),
    "a list of models": ({"models": ["gpt2-124m"]}, "models"),
    "an issuer without issuers": ({"tokens": {"issuers": []}}, "tokens.issuers"),
    "an issuer twice": ({"tokens": {"issuers": MINIMAL["tokens"]["issuers"] * 2}}, "tokens"),
    "an unknown algorithm": (
        {"tokens": {"issuers": [{**MINIMAL["tokens"]["issuers"][0], "algorithms": ["HS256"]}]}},
        "tokens.issuers.0.algorithms.0",
    ),
    "no algorithm": (
        {"tokens": {"issuers": [{**MINIMAL["tokens"]["issuers"][0], "algorithms": []}]}},
        "tokens.issuers.0.algorithms",
    ),
    "two places for keys": (
        {"tokens": {"issuers": [{"issuer": "i", "audience": "a", "keys": {"file": "f", "url": "https://u.example"}}]}},
        "tokens.issuers.0.keys",
    ),
    "an issuer that no token can name": (
        {"tokens": {"issuers": [{**MINIMAL["tokens"]["issuers"][0], "issuer": "i" * 256}]}},
        "tokens.issuers.0.issuer",
    ),
    "an audience that no token can name": (
        {"tokens": {"issuers": [{**MINIMAL["tokens"]["issuers"][0], "audience": "a" * 256}]}},
        "tokens.issuers.0.audience",
    ),
    "tokens that live too long": ({"tokens": {**MINIMAL["tokens"], "max_lifetime_seconds": 86_401}}, "tokens"),
    "a single signer for a stage": (
        {"policy": {"directory": "p", "signatures": {"deployment": "d", "threshold": 1, "signers": [SIGNER]}}},
        "policy.signatures",
    ),
    "half of TLS": ({"tls": {"certificate": "server.pem"}}, "tls.key"),
    "no path": ({"tls": {"certificate": 1, "key": "k"}}, "tls.certificate"),
    "a log level of its own": ({"log": {"level": "trace"}}, "log.level"),
    "a section that is none": ({"limits": 5}, "limits"),
}


@pytest.mark.parametrize(("sections", "place"), BAD.values(), ids=BAD)
def test_a_bad_value_is_told_by_its_path(tmp_path: Path, sections: dict[str, Any], place: str) -> None:
    told = problems(write(tmp_path, changed(**sections)))

    assert told
    assert all(problem.startswith(place) for problem in told)


BROKEN = {
    "empty": ("", "expected a mapping of settings"),
    "a list": ("- listen", "expected a mapping of settings"),
    "no YAML": ("listen: [", "not YAML"),
    "a tag": ("listen: !!python/object/apply:os.getcwd []", "not YAML"),
    "a day that there is not": ("listen: 2026-02-31", "not YAML"),
    "endless nesting": ("listen: " + "[" * 5_000, "not YAML"),
    "a key twice": (yaml.safe_dump(MINIMAL) + "policy: {directory: other, signatures: off}\n", "policy is there twice"),
    "an inner key twice": (yaml.safe_dump(MINIMAL) + "limits: {call_seconds: 1, call_seconds: 2}\n", "twice"),
    "no text keys": (yaml.safe_dump(MINIMAL) + "1: 2\n", "1: "),
}


@pytest.mark.parametrize(("text", "problem"), BROKEN.values(), ids=BROKEN)
def test_a_file_that_is_no_settings_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    assert problem in "\n".join(problems(write(tmp_path, text)))


def test_a_file_that_is_not_there_says_how_to_get_one(tmp_path: Path) -> None:
    assert problems(tmp_path / "nothing.yaml") == ["no such file; `sluicegate init` writes a first one"]


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    assert problems(tmp_path)[0].startswith("cannot be read")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "sluicegate.yaml"
    path.write_bytes(b"listen: \xff")

    assert problems(path)[0].startswith("cannot be read")


def test_a_file_too_large_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path, "#" * (MAX_SETTINGS_BYTES + 1))

    assert problems(path) == [f"larger than {MAX_SETTINGS_BYTES} bytes"]
