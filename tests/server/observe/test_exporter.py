"""The metrics endpoint as scrapers, and people who mean no good, meet it."""

from __future__ import annotations

import base64
import contextlib
import gc
import gzip
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import httpx
import pytest
from certificates import Authority
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from sluicegate.server import config
from sluicegate.server.errors import SettingsError
from sluicegate.server.metrics_setup import Endpoint
from sluicegate.server.observe.exporter import HEAD_BYTES, MOST_CONNECTIONS, exported
from sluicegate.server.observe.metrics import Metrics

parse_openmetrics: Callable[[str], Iterable[Metric]] = text_string_to_metric_families  # it has no type of its own
PASSWORD = "correct-horse-battery"
WAIT_SECONDS = 20.0
"""For what a working endpoint does at once: a broken one fails the test instead of hanging it."""


def get(port: int, path: str = "/metrics", **options: object) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False, **options)  # type: ignore[arg-type]


@pytest.fixture
def port() -> Iterator[int]:
    with exported(Metrics(), "127.0.0.1:0") as opened:
        yield opened


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS)


def said(connection: socket.socket) -> bytes:
    """All that comes until the endpoint closes."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(1 << 16):
            found += data
    return found


def own_threads() -> list[threading.Thread]:
    """Those of endpoints. Other tests' libraries have threads too, which end when they like."""
    return [thread for thread in threading.enumerate() if thread.name == "metrics"]


def test_metrics_are_served_in_the_format_that_prometheus_reads() -> None:
    metrics = Metrics()
    metrics.engine.restarts.inc()

    with exported(metrics, "127.0.0.1:0") as port:
        answer = get(port)

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "sluicegate_engine_restarts_total 1.0" in answer.text.splitlines()
    assert any(line.startswith("process_resident_memory_bytes ") for line in answer.text.splitlines())


@pytest.mark.parametrize(
    ("accept", "is_openmetrics"),
    [
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", True),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", True),
        ("text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0", False),
        ("application/openmetrics-text;version=9.0.0", False),
        ("application/openmetrics-text;version=1.0.0.x", False),
        ("*/*", False),
        (";;;,,,=", False),
    ],
)
def test_openmetrics_is_for_those_who_ask(port: int, accept: str, is_openmetrics: bool) -> None:
    answer = get(port, headers={"accept": accept})

    kind = answer.headers["content-type"]
    assert kind.startswith("application/openmetrics-text; version=1.0.0" if is_openmetrics else "text/plain")
    if is_openmetrics:
        assert list(parse_openmetrics(answer.text))


def test_answers_are_compressed_for_those_who_ask(port: int) -> None:
    request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: deflate, gzip;q=1.0\r\n\r\n"
    with connect(port) as connection:
        connection.sendall(request)
        head, _, body = said(connection).partition(b"\r\n\r\n")

    assert b"Content-Encoding: gzip" in head
    assert b"sluicegate_engine_restarts_total" in gzip.decompress(body)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/metrics?name[]=up", 200),
        ("GET", "/", 404),
        ("GET", "/metrics/", 404),
        ("GET", "/favicon.ico", 404),
        ("POST", "/other", 404),
        ("HEAD", "/metrics", 405),
        ("POST", "/metrics", 405),
        ("OPTIONS", "/metrics", 405),
        ("TRACE", "/metrics", 405),
    ],
)
def test_only_get_of_metrics_is_answered(port: int, method: str, path: str, status: int) -> None:
    answer = httpx.request(method, f"http://127.0.0.1:{port}{path}", trust_env=False)

    assert answer.status_code == status
    if status == 405:
        assert answer.headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /metrics\r\n\r\n", b"400"),
        (b"GET /metrics SPDY/1\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\nAccept: a\r\n b\r\n\r\n", b"400"),
        (b"G\xc3\x89T /metrics HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\nAccept: " + b"x" * HEAD_BYTES + b"\r\n\r\n", b"431"),
    ],
)
def test_what_is_no_request_is_refused_and_harms_nobody(port: int, sent: bytes, status: bytes) -> None:
    with connect(port) as connection:
        connection.sendall(sent)
        answer = said(connection)

    assert answer.split(b" ")[1:2] in ([status], [])  # none where the rest of it was in the way of the answer
    assert get(port).status_code == 200


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HTTP/1.1\r\nAccept: text/pl"])
def test_those_who_hold_the_line_keep_nobody_out(port: int, sent: bytes) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(3 * MOST_CONNECTIONS):
            stack.enter_context(connect(port)).sendall(sent)

        assert get(port, timeout=WAIT_SECONDS).status_code == 200
        assert len(own_threads()) == 1


def test_somebody_who_asks_and_does_not_read_keeps_nobody_out(port: int) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(2 * MOST_CONNECTIONS):
            stack.enter_context(connect(port)).sendall(b"GET /metrics HTTP/1.1\r\n\r\n")

        assert get(port, timeout=WAIT_SECONDS).status_code == 200


def test_nothing_is_left_of_it_afterwards() -> None:
    with exported(Metrics(), "127.0.0.1:0") as port, connect(port) as held:
        assert get(port).status_code == 200
        held.sendall(b"GET")

    assert own_threads() == []
    with pytest.raises(httpx.ConnectError):
        get(port)


def test_who_comes_as_it_closes_leaves_nothing_behind() -> None:
    metrics = Metrics()
    for _ in range(100):
        with exported(metrics, "127.0.0.1:0") as port:
            connect(port).close()

    gc.collect()  # a socket that nobody closed fails the test


def test_it_listens_on_ipv6_too() -> None:
    with exported(Metrics(), "[::1]:0") as port:
        answer = httpx.get(f"http://[::1]:{port}/metrics", trust_env=False)

    assert answer.status_code == 200


def test_a_port_in_use_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        with pytest.raises(SettingsError) as caught, exported(Metrics(), address):
            pass

    assert caught.value.problems == (f"metrics.listen: cannot listen on {address}: Address already in use",)


def test_a_metric_that_cannot_be_read_is_an_error_of_that_answer_alone() -> None:
    metrics = Metrics()

    def fails() -> float:
        raise RuntimeError

    metrics.control.keys_age_seconds.set_function(fails)
    with exported(metrics, "127.0.0.1:0") as port:
        broken = get(port).status_code
        metrics.control.keys_age_seconds.set_function(lambda: 1.0)
        whole = get(port).status_code

    assert (broken, whole) == (500, 200)


# With TLS.


def tls_section(authority: Authority, *, with_clients: bool = False) -> config.Tls:
    path = authority.issue("metrics.example")
    ca = authority.certificate if with_clients else None
    return config.Tls(certificate=path, key=path.with_suffix(".key"), client_ca=ca)


def trusting(authority: Authority, name: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.certificate)
    if name is not None:
        path = authority.issue(name)
        context.load_cert_chain(path, path.with_suffix(".key"))
    return context


@contextlib.contextmanager
def endpoint(**settings: object) -> Iterator[str]:
    """An endpoint with these settings; gives its address."""
    opened = Endpoint(config.Metrics.model_validate({"listen": "127.0.0.1:0", **settings}))
    with opened.opened(Metrics()) as address:
        assert address is not None
        yield address


def test_metrics_are_served_over_tls(authority: Authority) -> None:
    with endpoint(tls=tls_section(authority)) as address:
        answer = httpx.get(f"https://{address}/metrics", verify=trusting(authority), trust_env=False)
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://{address}/metrics", trust_env=False)

    assert answer.status_code == 200


def test_old_versions_of_tls_are_not_spoken(authority: Authority) -> None:
    context = trusting(authority)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1

    with endpoint(tls=tls_section(authority)) as address, pytest.raises(httpx.TransportError):
        httpx.get(f"https://{address}/metrics", verify=context, trust_env=False)


def test_where_clients_have_certificates_nobody_else_is_answered(authority: Authority) -> None:
    with endpoint(tls=tls_section(authority, with_clients=True)) as address:
        known = httpx.get(f"https://{address}/metrics", verify=trusting(authority, "prometheus"), trust_env=False)
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"https://{address}/metrics", verify=trusting(authority), trust_env=False)

    assert known.status_code == 200


def test_a_renewed_certificate_counts_at_once_and_a_broken_one_never(authority: Authority) -> None:
    section = tls_section(authority)

    def serial(address: str) -> str:
        host, _, port = address.rpartition(":")
        with (
            socket.create_connection((host, int(port)), timeout=WAIT_SECONDS) as plain,
            trusting(authority).wrap_socket(plain, server_hostname=host) as connection,
        ):
            found = connection.getpeercert()
        assert found is not None
        return str(found["serialNumber"])

    with endpoint(tls=section) as address:
        first = serial(address)
        authority.issue("metrics.example")
        second = serial(address)
        section.key.write_text("broken")
        third = serial(address)

    assert first != second
    assert second == third


def test_handshakes_that_never_end_keep_nobody_out(authority: Authority) -> None:
    with endpoint(tls=tls_section(authority)) as address, contextlib.ExitStack() as stack:
        for _ in range(2 * MOST_CONNECTIONS):
            stack.enter_context(connect(int(address.rpartition(":")[2]))).sendall(b"\x16\x03\x01")

        answer = httpx.get(f"https://{address}/metrics", verify=trusting(authority), trust_env=False)

    assert answer.status_code == 200


# With a password.


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n")
    path.chmod(0o600)
    return path


def login(password_file: Path) -> dict[str, object]:
    return {"user": "prometheus", "password_file": password_file}


def test_who_has_the_password_is_answered(password_file: Path) -> None:
    with endpoint(basic_auth=login(password_file)) as address:
        answer = httpx.get(f"http://{address}/metrics", auth=("prometheus", PASSWORD), trust_env=False)

    assert answer.status_code == 200


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Basic",
        "Basic ====",
        "Basic " + base64.b64encode(f"prometheus:{PASSWORD}x".encode()).decode(),
        "Basic " + base64.b64encode(b"prometheus:").decode(),
        "Basic " + base64.b64encode(f"other:{PASSWORD}".encode()).decode(),
        "Basic " + base64.b64encode(f"prometheus:{PASSWORD}\n".encode()).decode(),
        "Bearer " + base64.b64encode(f"prometheus:{PASSWORD}".encode()).decode(),
    ],
)
@pytest.mark.parametrize("path", ["/metrics", "/elsewhere"])
def test_who_has_not_is_told_nothing_but_how_to_ask(password_file: Path, authorization: str | None, path: str) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    with endpoint(basic_auth=login(password_file)) as address:
        answer = httpx.get(f"http://{address}{path}", headers=headers, trust_env=False)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic realm=")
    assert "sluicegate_" not in answer.text


def test_two_authorization_headers_are_none(password_file: Path) -> None:
    good = base64.b64encode(f"prometheus:{PASSWORD}".encode()).decode()
    headers = [("authorization", f"Basic {good}"), ("authorization", f"Basic {good}")]
    with endpoint(basic_auth=login(password_file)) as address:
        answer = httpx.get(f"http://{address}/metrics", headers=headers, trust_env=False)

    assert answer.status_code == 401


def test_a_new_password_counts_at_once_and_without_one_nobody_is_let_in(password_file: Path) -> None:
    def status(password: str) -> int:
        return httpx.get(f"http://{address}/metrics", auth=("prometheus", password), trust_env=False).status_code

    with endpoint(basic_auth=login(password_file)) as address:
        password_file.write_text("another-password-now")
        renewed = (status(PASSWORD), status("another-password-now"))
        password_file.unlink()
        without = (status("another-password-now"), status(""))

    assert renewed == (401, 200)
    assert without == (401, 401)


@pytest.mark.parametrize(
    ("content", "mode", "problem"),
    [
        ("short", 0o600, "must hold one line of 16 to 1024 bytes"),
        ("", 0o600, "must hold one line of 16 to 1024 bytes"),
        (f"{PASSWORD}\nsecond line", 0o600, "must hold one line of 16 to 1024 bytes"),
        (PASSWORD, 0o644, "can be read by everybody; run: chmod o-rwx"),
    ],
)
def test_a_password_file_that_protects_nothing_stops_the_start(
    password_file: Path, content: str, mode: int, problem: str
) -> None:
    password_file.write_text(content)
    password_file.chmod(mode)

    with pytest.raises(SettingsError, match=r"metrics\.basic_auth\.password_file") as caught:
        Endpoint(config.Metrics.model_validate({"basic_auth": login(password_file)}))

    assert problem in str(caught.value)
    assert "horse" not in str(caught.value)


@pytest.mark.parametrize("listen", ["0.0.0.0:9464", "metrics.example:9464", "[::]:9464", "localhost.example:9464"])
def test_a_password_is_not_sent_in_the_clear_through_a_network(password_file: Path, listen: str) -> None:
    with pytest.raises(ValueError, match="needs tls"):
        config.Metrics.model_validate({"listen": listen, "basic_auth": login(password_file)})
