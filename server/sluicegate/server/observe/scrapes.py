"""As much of HTTP/1.1 (RFC 9112) as `GET /metrics` needs: one request a connection, of a bounded size."""

from __future__ import annotations

import gzip
import http.client
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

_write_openmetrics: Callable[[Collector], bytes] = openmetrics.generate_latest  # the library has no type for it
OPENMETRICS = "application/openmetrics-text"
OPENMETRICS_VERSIONS = ("", "0.0.1", "1.0.0")
"""Those that the encoder can write, which has one form for all."""


class BadRequest(Exception):
    """The bytes are no request."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request's head. Headers that stand there twice are joined by commas, hence are no credentials."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, after which the connection closes."""

    status: HTTPStatus
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The answer as it goes out."""
        body = self.body or f"{self.status.value} {self.status.phrase}\n".encode()
        headers = {
            "Content-Type": "text/plain; charset=utf-8",
            **self.headers,
            "Content-Length": str(len(body)),
            "Connection": "close",
        }
        lines = [f"HTTP/1.1 {self.status.value} {self.status.phrase}", *(f"{k}: {v}" for k, v in headers.items())]
        return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + body


def parse(head: bytes) -> Request:
    """The request of a head that ends with an empty line. Raises BadRequest."""
    line, _, rest = head.partition(b"\r\n")
    parts = line.split(b" ")
    if len(parts) != 3 or not parts[2].startswith(b"HTTP/1.") or b"\r\n " in rest or b"\r\n\t" in rest:
        raise BadRequest
    try:
        message = http.client.parse_headers(io.BytesIO(rest))
        method, target = parts[0].decode("ascii"), parts[1].decode("ascii")
    except (http.client.HTTPException, UnicodeDecodeError):
        raise BadRequest from None
    headers = {name.lower(): ",".join(message.get_all(name, [])) for name in message}
    return Request(method, target.partition("?")[0], headers)


def metrics_response(registry: Collector, request: Request) -> Response:
    """All metrics: as OpenMetrics, with exemplars, for who names it first, else as Prometheus's text format."""
    if _wants_openmetrics(request.headers.get("accept", "")):
        body, kind = _write_openmetrics(registry), openmetrics.CONTENT_TYPE_LATEST
    else:
        body, kind = generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4
    headers = {"Content-Type": kind}
    if any(each.partition(";")[0].strip() == "gzip" for each in request.headers.get("accept-encoding", "").split(",")):
        body = gzip.compress(body, compresslevel=6)
        headers["Content-Encoding"] = "gzip"
    return Response(HTTPStatus.OK, body, headers)


def _wants_openmetrics(accept: str) -> bool:
    """Whether OpenMetrics stands before plain text among the accepted types. Weights are not looked at."""
    for accepted in accept.split(","):
        kind, *parameters = [part.strip() for part in accepted.split(";")]
        if kind == "text/plain":
            return False
        version = next((part[8:] for part in parameters if part.startswith("version=")), "")
        if kind == OPENMETRICS and version in OPENMETRICS_VERSIONS:
            return True
    return False
