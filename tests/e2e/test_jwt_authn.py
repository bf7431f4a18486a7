"""Envoy's own look at tokens, as the chart has it: what it keeps away from a real server, and what it leaves to it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import pytest
import yaml
from deployment import AUDIENCE, ISSUER
from envoy_proxy import FILES, Document, Envoy, cluster, configuration, connections, envoy
from foreign import bearer, run
from real_server import RealServer

from sluicegate.auth import create_signing_key
from sluicegate.v1 import access_service_pb2_grpc
from sluicegate.v1.access_service_pb2 import GetCallerIdentityRequest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SERVICE = "sluicegate.v1.AccessService"
PAGE = "https://app.example"
SECONDS = 30.0


@contextmanager
def keys_at(directory: Path) -> Iterator[int]:
    """The port of a web server of a directory."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=directory)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


def looking_at_tokens(document: Document, port: int) -> Document:
    """The configuration with the filter where the chart puts it, and the issuer's keys on loopback without TLS."""
    part = yaml.safe_load((FILES / "jwt-authn.yaml").read_text())
    provider = part["filter"]["typed_config"]["providers"]["issuer"]
    provider |= {"issuer": ISSUER, "audiences": [AUDIENCE]}
    provider["remote_jwks"]["http_uri"]["uri"] = f"http://127.0.0.1:{port}/jwks.json"
    document["static_resources"]["clusters"].append(part["cluster"])
    issuer = cluster(document, "issuer")
    del issuer["transport_socket"]
    (host,) = issuer["load_assignment"]["endpoints"][0]["lb_endpoints"]
    host["endpoint"]["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": port}
    filters = connections(document)["http_filters"]
    filters.insert([each["name"] for each in filters].index("envoy.filters.http.buffer"), part["filter"])
    return document


@pytest.fixture(scope="module")
def proxy(server: RealServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Envoy]:
    with keys_at(server.deployment.key_set_file.parent) as port:
        document = looking_at_tokens(configuration([server.address]), port)
        with envoy(tmp_path_factory.mktemp("envoy"), document) as running:
            running.wait_for_healthy([server.address])
            yield running


def asked(server: RealServer) -> float:
    """How many calls the server has had."""
    return server.metric("grpc_server_started_total", grpc_service=SERVICE)


def call(proxy: Envoy, token: str | None) -> str:
    """The text with which GetCallerIdentity is refused for want of a good token; empty: it is not."""
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    with grpc.insecure_channel(proxy.address) as channel:
        stub = access_service_pb2_grpc.AccessServiceStub(channel)
        ended = stub.GetCallerIdentity.future(GetCallerIdentityRequest(), metadata=metadata, timeout=SECONDS)
        assert ended.code() in (grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED)
        return str(ended.details())


def test_a_good_token_passes_and_is_passed_on(proxy: Envoy, server: RealServer) -> None:
    assert call(proxy, server.token()) == ""


def test_a_token_of_a_strange_key_does_not_reach_the_server(proxy: Envoy, server: RealServer) -> None:
    forged = server.token(key=create_signing_key(key_id="first"))
    before = asked(server)

    said = call(proxy, forged)

    assert said == "Jwt verification fails"
    assert asked(server) == before


def test_no_token_at_all_is_the_server_s_to_judge(proxy: Envoy, server: RealServer) -> None:
    before = asked(server)

    said = call(proxy, None)

    assert said == "send one `authorization: Bearer <token>` metadata value"
    assert asked(server) == before + 1


def test_a_page_can_read_that_it_is_refused(proxy: Envoy, server: RealServer) -> None:
    forged = server.token(key=create_signing_key(key_id="first"))

    answer = run(
        *("curl", "--silent", "--include", "--header", bearer(forged), "--header", f"origin: {PAGE}"),
        f"http://{proxy.address}/v1/callerIdentity",
    )

    assert "401 Unauthorized" in answer.stdout
    assert f"access-control-allow-origin: {PAGE}" in answer.stdout


def test_what_a_token_may_do_stays_with_the_server(proxy: Envoy, server: RealServer) -> None:
    token = server.token(scopes=("score:demo-xs",))

    answer = run(
        *("curl", "--silent", "--header", bearer(token), "--data", json.dumps({"text": "It was"})),
        f"http://{proxy.address}/v1/models/demo-xs:generate",
    )

    assert json.loads(answer.stdout)["details"][0]["reason"] == "SCOPE_MISSING"
