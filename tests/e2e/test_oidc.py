"""Tokens of an OpenID Connect provider that is not ours: from its token endpoint to the server's answer."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from deployment import AUDIENCE, DEMO_MODELS, Deployment, Hosted
from foreign import NODE_MODULES
from real_server import RealServer, real_server, until

from sluicegate.auth import SigningKey, create_signing_key
from sluicegate.client import (
    AccessDenied,
    AuthenticationFailed,
    Client,
    ClientCredentials,
    GenerationConfig,
    TokenRefused,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SCRIPT = Path(__file__).with_name("oidc_issuer.mjs")
CLIENT, SECRET = "reading-room", "a secret: with % and +"
SCOPES = ("generate:demo-xs", "score:demo-xs")


@pytest.fixture(scope="module")
def port() -> int:
    """A port that stays the issuer's over its restarts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def keys() -> tuple[SigningKey, SigningKey]:
    """The issuer's key, and its next one."""
    return create_signing_key("RS256", key_id="first"), create_signing_key("RS256", key_id="second")


@contextmanager
def provider(port: int, *keys: SigningKey) -> Iterator[str]:
    """An issuer that signs with the first of these keys and publishes all; gives its URL."""
    jwks = [{**key.private_jwk(), **key.public_jwk()} for key in keys]
    for jwk in jwks:
        del jwk["key_ops"]  # the provider would publish the private key's
    configuration = {"keys": jwks, "client": CLIENT, "secret": SECRET, "scope": " ".join(SCOPES), "audience": AUDIENCE}
    node = shutil.which("node")
    assert node is not None
    with subprocess.Popen(
        [node, SCRIPT, str(port), json.dumps(configuration)],
        stdout=subprocess.PIPE,
        env={"NODE_PATH": str(NODE_MODULES)},
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@pytest.fixture(scope="module", params=["url", "discovery"])
def server(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    port: int,
    keys: tuple[SigningKey, SigningKey],
) -> Iterator[RealServer]:
    """A server that trusts the issuer, and has fetched its first key."""
    url = f"http://127.0.0.1:{port}"
    places = {"url": {"url": f"{url}/jwks"}, "discovery": {"discovery": True}}
    issuer = {"issuer": url, "audience": AUDIENCE, "algorithms": ["RS256"], "keys": places[request.param]}
    models = {"demo-xs": Hosted(directory=DEMO_MODELS / "demo-xs")}
    deployment = Deployment(tmp_path_factory.mktemp("oidc") / "files", models, tokens={"issuers": [issuer]})
    with ExitStack() as stack:
        with provider(port, keys[0]):
            running = stack.enter_context(real_server(deployment))
        yield running


async def test_a_token_of_the_issuer_opens_what_its_scopes_say(
    server: RealServer, port: int, keys: tuple[SigningKey, SigningKey]
) -> None:
    with provider(port, keys[0]) as url:
        may_generate = ClientCredentials(url, CLIENT, SECRET, scopes=("generate:demo-xs",))
        may_score = ClientCredentials(url, CLIENT, SECRET, scopes=("score:demo-xs",))
        async with Client(server.address, token=may_generate) as client:
            identity = await client.whoami()
            generation = await client.generate("demo-xs", "It was", GenerationConfig(max_output_tokens=5))
        async with Client(server.address, token=may_score) as client:
            with pytest.raises(AccessDenied) as denied:
                await client.generate("demo-xs", "It was")

    assert (identity.issuer, identity.client_id, identity.scopes) == (url, CLIENT, ("generate:demo-xs",))
    assert generation.usage.output_tokens == 5
    assert denied.value.reason == "SCOPE_MISSING"


async def test_a_wrong_secret_gets_no_token(server: RealServer, port: int, keys: tuple[SigningKey, SigningKey]) -> None:
    with provider(port, keys[0]) as url:
        async with Client(server.address, token=ClientCredentials(url, CLIENT, "guessed")) as client:
            with pytest.raises(TokenRefused, match="invalid_client"):
                await client.whoami()


async def test_tokens_are_believed_while_the_issuer_is_down(
    server: RealServer, port: int, keys: tuple[SigningKey, SigningKey]
) -> None:
    with provider(port, keys[0]) as url:
        source = ClientCredentials(url, CLIENT, SECRET, scopes=SCOPES)
        token = await source.token()

    async with Client(server.address, token=token) as client:
        identity = await client.whoami()

    assert identity.client_id == CLIENT


async def test_a_rotated_key_is_taken_up_and_the_old_one_dropped(
    server: RealServer, port: int, keys: tuple[SigningKey, SigningKey]
) -> None:
    first, second = keys
    with provider(port, first) as url:
        old = await ClientCredentials(url, CLIENT, SECRET, scopes=SCOPES).token()

    with provider(port, second) as url:
        async with (
            Client(server.address, token=ClientCredentials(url, CLIENT, SECRET, scopes=SCOPES)) as client,
        ):
            await until("the new key is known", lambda: is_believed(client))

    async with Client(server.address, token=old) as client:
        with pytest.raises(AuthenticationFailed) as refused:
            await client.whoami()
    assert refused.value.reason == "TOKEN_KEY_UNKNOWN"


async def is_believed(client: Client) -> bool:
    try:
        await client.whoami()
    except AuthenticationFailed:
        return False
    return True
