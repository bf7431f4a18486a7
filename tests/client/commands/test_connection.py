from __future__ import annotations

from pathlib import Path

import pytest
from client_server import FakeServer
from client_terminal import sluicegate

from sluicegate.client import Client
from sluicegate.client.commands.connection import Connection, Server
from sluicegate.client.errors import ConfigurationError, InsecureTransport, TokenUnavailable
from sluicegate.v1.access_service_pb2 import GetCallerIdentityResponse


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text("s3cret\n")
    return file


def test_the_target_and_the_token_file_come_from_the_environment_too(server: FakeServer, tmp_path: Path) -> None:
    server.will("GetCallerIdentity", [GetCallerIdentityResponse(subject="alice")])
    (tmp_path / "token").write_text("from-file\n")
    env = {"SLUICEGATE_TARGET": server.target, "SLUICEGATE_TOKEN_FILE": str(tmp_path / "token")}

    result = sluicegate("whoami", env=env)

    assert result.exit_code == 0
    assert server.calls[0].metadata["authorization"] == "Bearer from-file"


def test_the_token_variable_counts_where_there_is_no_token_file(server: FakeServer, tmp_path: Path) -> None:
    server.will("GetCallerIdentity", [GetCallerIdentityResponse()])
    (tmp_path / "token").write_text("from-file")
    env = {"SLUICEGATE_TARGET": server.target, "SLUICEGATE_TOKEN": "from-variable"}

    sluicegate("whoami", env=env)
    sluicegate("whoami", "--token-file", tmp_path / "token", env=env)

    assert [call.metadata["authorization"] for call in server.calls] == ["Bearer from-variable", "Bearer from-file"]


def test_an_empty_token_variable_is_no_token(server: FakeServer) -> None:
    server.will("GetCallerIdentity", [GetCallerIdentityResponse()])

    sluicegate("whoami", env={"SLUICEGATE_TARGET": server.target, "SLUICEGATE_TOKEN": ""})

    assert "authorization" not in server.calls[0].metadata


def test_a_token_cannot_be_an_argument() -> None:
    result = sluicegate("whoami", "--token", "abc")

    assert result.exit_code == 2
    assert "No such option" in result.output


def test_a_token_does_not_go_out_in_the_clear() -> None:
    result = sluicegate("whoami", "--target", "server.example:443", env={"SLUICEGATE_TOKEN": "abc"})

    assert result.exit_code == 2
    assert "--tls" in result.stderr


@pytest.mark.parametrize("setting", ["ca", "cert", "server_name"])
def test_each_tls_option_turns_tls_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setenv("SLUICEGATE_TOKEN", "abc")
    values: dict[str, Connection] = {
        "ca": Connection(server=Server(target="server.example:1", ca=tmp_path / "ca.pem")),
        "cert": Connection(server=Server(target="server.example:1", cert=tmp_path / "c.pem", key=tmp_path / "c.key")),
        "server_name": Connection(server=Server(target="server.example:1", server_name="other.example")),
    }

    assert isinstance(values[setting].client(), Client)


def test_without_any_of_them_there_is_no_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICEGATE_TOKEN", "abc")

    with pytest.raises(InsecureTransport):
        Connection(server=Server(target="server.example:1")).client()
    assert isinstance(Connection(server=Server(target="server.example:1", tls=True)).client(), Client)


def test_client_credentials_are_taken_together(secret: Path) -> None:
    whole = Connection(issuer="https://issuer.example", client_id="me", client_secret_file=secret, scope="a b")

    assert isinstance(whole.client(), Client)


@pytest.mark.parametrize("left_out", ["issuer", "client_id", "client_secret_file"])
def test_client_credentials_that_are_not_whole_are_refused(secret: Path, left_out: str) -> None:
    connection = Connection(
        issuer=None if left_out == "issuer" else "https://issuer.example",
        client_id=None if left_out == "client_id" else "me",
        client_secret_file=None if left_out == "client_secret_file" else secret,
    )

    with pytest.raises(ConfigurationError, match="belong together"):
        connection.client()


def test_two_sources_of_a_token_are_one_too_many(secret: Path) -> None:
    with pytest.raises(ConfigurationError, match="give one of them"):
        Connection(token_file=secret, issuer="https://issuer.example").client()


@pytest.mark.parametrize(("content", "text"), [(None, "No such file"), (b" \n", "is empty"), (b"\xff", "not UTF-8")])
def test_a_secret_file_that_has_none_is_named_and_not_quoted(tmp_path: Path, content: bytes | None, text: str) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(ConfigurationError, match=text):
        Connection(issuer="https://issuer.example", client_id="me", client_secret_file=file).client()


def test_a_token_variable_with_something_else_is_not_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICEGATE_TOKEN", "my secret words")

    with pytest.raises(TokenUnavailable) as caught:
        Connection().client()

    assert "secret words" not in str(caught.value)
