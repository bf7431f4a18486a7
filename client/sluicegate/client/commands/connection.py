"""The options that say where the server is and who is calling."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluicegate.client.errors import ConfigurationError

if TYPE_CHECKING:
    from sluicegate.client.channel import Tls
    from sluicegate.client.client import Client
    from sluicegate.client.tokens import TokenSource

DEFAULT_TARGET = "127.0.0.1:50051"
TOKEN_VARIABLE = "SLUICEGATE_TOKEN"  # noqa: S105  (the variable's name)


def token_of_the_environment() -> str | None:
    """None where the variable is empty or missing."""
    return os.environ.get(TOKEN_VARIABLE) or None


def _option(flag: str, text: str, *, metavar: str | None = None, panel: str = "Connection") -> Any:
    variable = "SLUICEGATE_" + flag.removeprefix("--").replace("-", "_").upper()
    return typer.Option(flag, envvar=variable, help=text, metavar=metavar, rich_help_panel=panel)


def token_option(flag: str, text: str, *, metavar: str | None = None) -> Any:
    """An option of the panel that says whose token is sent; also read from the environment."""
    return _option(flag, text, metavar=metavar, panel="Token")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where the server is, and how to reach it."""

    target: Annotated[str, _option("--target", "host:port, dns:///host:port, ipv4:A:PORT,B:PORT or unix:/path")] = (
        DEFAULT_TARGET
    )
    timeout: Annotated[float, _option("--timeout", "Seconds for each call; inf for no limit")] = 60.0
    tls: Annotated[bool, _option("--tls", "Use TLS; so does each option below")] = False
    ca: Annotated[Path | None, _option("--ca", "Authorities to trust, PEM", metavar="FILE")] = None
    cert: Annotated[Path | None, _option("--cert", "This client's certificate, PEM", metavar="FILE")] = None
    key: Annotated[Path | None, _option("--key", "Its private key, PEM", metavar="FILE")] = None
    server_name: Annotated[str | None, _option("--server-name", "Name in the server's certificate")] = None

    def client(self, token: TokenSource | str | None, *, retry: bool = True) -> Client:
        """A client with this token, or with none. Raises ConfigurationError and TokenUnavailable."""
        from sluicegate.client.client import Client

        return Client(self.target, token=token, tls=self._tls(), timeout=self.timeout, retry=retry)

    def _tls(self) -> Tls | None:
        from sluicegate.client.channel import Tls

        if not self.tls and not any((self.ca, self.cert, self.key, self.server_name)):
            return None
        return Tls(ca=self.ca, certificate=self.cert, key=self.key, server_name=self.server_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where the server is, how to reach it, and whose token to send.

    No option takes a secret: a command line can be read by every user of the machine.
    """

    server: Server = field(default_factory=Server)
    token_file: Annotated[
        Path | None,
        token_option("--token-file", f"File with the token; without one, ${TOKEN_VARIABLE}", metavar="FILE"),
    ] = None
    issuer: Annotated[str | None, token_option("--issuer", "OIDC issuer to get tokens from", metavar="URL")] = None
    client_id: Annotated[str | None, token_option("--client-id", "This client's name there")] = None
    client_secret_file: Annotated[
        Path | None, token_option("--client-secret-file", "File with its secret there", metavar="FILE")
    ] = None
    scope: Annotated[str | None, token_option("--scope", "Scopes to ask for, with spaces between")] = None
    audience: Annotated[str | None, token_option("--audience", "Audience to ask for")] = None

    def client(self) -> Client:
        """A client as the options say. Raises ConfigurationError and TokenUnavailable."""
        return self.server.client(self._token_source())

    def _token_source(self) -> TokenSource | str | None:
        from sluicegate.client.tokens import FileToken

        credentials = (self.issuer, self.client_id, self.client_secret_file)
        if any(credentials):
            if self.token_file is not None:
                raise ConfigurationError("a token comes from --token-file or from --issuer: give one of them")
            return self._credentials()
        if self.token_file is not None:
            return FileToken(self.token_file)
        return token_of_the_environment()

    def _credentials(self) -> TokenSource:
        from sluicegate.client.oidc import ClientCredentials

        if self.issuer is None or self.client_id is None or self.client_secret_file is None:
            raise ConfigurationError("--issuer, --client-id and --client-secret-file belong together")
        try:
            secret = self.client_secret_file.read_text(encoding="utf-8").strip()
        except OSError as fault:
            raise ConfigurationError(f"{self.client_secret_file} cannot be read: {fault.strerror}") from fault
        except UnicodeDecodeError:
            # The decoder's own text would quote the file.
            raise ConfigurationError(f"{self.client_secret_file} is not UTF-8 text") from None
        if not secret:
            raise ConfigurationError(f"{self.client_secret_file} is empty")
        scopes = (self.scope or "").split()
        return ClientCredentials(self.issuer, self.client_id, secret, scopes=scopes, audience=self.audience)
