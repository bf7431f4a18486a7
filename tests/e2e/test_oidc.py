"""Tokens of an OpenID Connect provider that is not ours: from its token endpoint to the server's answer."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote_plus

import httpx
import pytest
from certificates import Authority
from deployment import AUDIENCE, DEMO_MODELS, Deployment, Hosted
from foreign import NODE_MODULES
from real_server import RealServer, real_server, until

from sluicegate.auth import SigningKey, create_signing_key, issue_token
from sluicegate.client import (
    AccessDenied,
    AuthenticationFailed,
    Client,
    ClientCredentials,
    GenerationConfig,
    Tls,
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


async def test_the_rotation_drill(server: RealServer, port: int, keys: tuple[SigningKey, SigningKey]) -> None:
    """Publish the new key and sign with it; then drop the old one, and with it the tokens that it signed."""
    first, second = keys
    with provider(port, first) as url:
        old = await ClientCredentials(url, CLIENT, SECRET, scopes=SCOPES).token()

    with provider(port, second, first) as url:
        new = await ClientCredentials(url, CLIENT, SECRET, scopes=SCOPES).token()
        async with Client(server.address, token=new) as client:
            await until("the new key is known", lambda: is_believed(client))
    async with Client(server.address, token=old) as client:
        in_between = await is_believed(client)

    with provider(port, second) as url:
        stray = issue_token(
            create_signing_key("RS256", key_id="stray"),
            issuer=url,
            audience=AUDIENCE,
            subject="nobody",
            client_id=CLIENT,
            scopes=SCOPES,
            now=time.time(),
        )
        async with Client(server.address, token=old) as client, Client(server.address, token=stray) as asking:

            async def is_dropped() -> bool:
                await is_believed(asking)  # an unknown key asks for the set, once in half a minute
                return not await is_believed(client)

            await until("the old key is dropped", is_dropped)
            with pytest.raises(AuthenticationFailed) as refused:
                await client.whoami()
    async with Client(server.address, token=new) as client:
        afterwards = await is_believed(client)

    assert (in_between, afterwards) == (True, True)
    assert refused.value.reason == "TOKEN_KEY_UNKNOWN"


async def is_believed(client: Client) -> bool:
    try:
        await client.whoami()
    except AuthenticationFailed:
        return False
    return True


async def test_a_token_that_the_issuer_bound_is_for_the_certificate_s_holder_only(
    tmp_path: Path, port: int, keys: tuple[SigningKey, SigningKey]
) -> None:
    authority = Authority(tmp_path)
    own, other, of_server = map(authority.issue, ("lab", "other", "server"))
    with provider(port, keys[0]) as url:
        issuer = {"issuer": url, "audience": AUDIENCE, "algorithms": ["RS256"], "keys": {"discovery": True}}
        tls = {
            "certificate": str(of_server),
            "key": str(of_server.with_suffix(".key")),
            "client_ca": str(authority.certificate),
        }
        models = {"demo-xs": Hosted(directory=DEMO_MODELS / "demo-xs")}
        deployment = Deployment(tmp_path / "files", models, tokens={"issuers": [issuer]}, tls=tls)
        token = token_bound_to(own, url)
        with real_server(deployment) as server:
            reasons = [await reason_of(server, authority, certificate, token) for certificate in (own, other)]

    assert reasons == [None, "TOKEN_BINDING_MISMATCH"]


def token_bound_to(certificate: Path, issuer: str) -> str:
    """A token of the issuer's client whose tokens it binds to the certificate that it is shown."""
    shown = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    answer = httpx.post(
        f"{issuer}/token",
        auth=(f"{CLIENT}-bound", quote_plus(SECRET)),
        headers={"x-client-cert": base64.b64encode(shown).decode()},
        data={"grant_type": "client_credentials", "scope": SCOPES[0]},
        trust_env=False,
    )
    return str(answer.raise_for_status().json()["access_token"])


async def reason_of(server: RealServer, authority: Authority, certificate: Path, token: str) -> str | None:
    """Why a caller with this certificate and token is refused; None if it is served."""
    tls = Tls(ca=authority.certificate, certificate=certificate, key=certificate.with_suffix(".key"))
    async with Client(server.address, token=token, tls=tls) as client:
        try:
            await client.generate("demo-xs", "It was", GenerationConfig(max_output_tokens=4))
        except AuthenticationFailed as refused:
            return refused.reason
    return None
