"""Real Redis servers on loopback ports, started, killed, stopped and started again by tests."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

import redis
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

DATABASES = 4096
STARTS_IN_SECONDS = 20.0
POLL_SECONDS = 0.02
KEEPS = ("--appendonly", "yes", "--appendfsync", "always")


class RedisServer:
    """One server, not started yet, and its directory. `tls` has ca.pem, localhost.pem and localhost.key.

    `host`: the address at which tests ask it. `within`: a command that becomes the one that it is given.
    """

    def __init__(
        self,
        directory: Path,
        *options: str,
        tls: Path | None = None,
        host: str = "127.0.0.1",
        within: Sequence[str] = (),
    ) -> None:
        program = shutil.which("redis-server")
        assert program is not None, "redis-server is not installed: run `make e2e`"
        self.directory = directory
        self.port = free_port()
        self._host = host
        ports = ["--port", "0", "--tls-port", str(self.port)] if tls else ["--port", str(self.port)]
        certificates = (("cert", "localhost.pem"), ("key", "localhost.key"), ("ca-cert", "ca.pem"))
        for kind, file in certificates if tls else ():
            ports += [f"--tls-{kind}-file", f"{tls}/{file}"]
        ports += ["--tls-auth-clients", "no"] if tls else []
        own = ("--dir", str(directory), "--save", "")
        self._command = [*within, program, *ports, "--bind", host, *own, *options]
        self._tls = tls
        self._databases = count()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it answers."""
        with (self.directory / "redis.log").open("a") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        with closing(self.client()) as client:
            client.ping()

    def client(self) -> redis.Redis:
        """A client of the tests' own, which waits for the server to come up."""
        tries = int(STARTS_IN_SECONDS / POLL_SECONDS)
        retry = Retry(ConstantBackoff(POLL_SECONDS), tries, supported_errors=(RedisConnectionError,))
        ca = f"{self._tls}/ca.pem" if self._tls else None
        return redis.Redis(self._host, self.port, retry=retry, ssl=self._tls is not None, ssl_ca_certs=ca, protocol=2)

    def command(self, *words: str) -> str:
        """The reply to one command, as text."""
        with closing(self.client()) as client:
            reply = client.execute_command(*words)  # type: ignore[no-untyped-call]
            return reply.decode() if isinstance(reply, bytes) else str(reply)

    def make_cluster(self) -> None:
        """Take all slots of a cluster of one, and wait until it is one. The server has `--cluster-enabled yes`."""
        self.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        while "cluster_state:ok" not in self.command("CLUSTER", "INFO"):
            time.sleep(POLL_SECONDS)

    def make_cluster_with(self, holder: RedisServer, *, key: str) -> None:
        """Make a cluster of two, of which the other server has the slot of the key and this one has all others."""
        slot = int(self.command("CLUSTER", "KEYSLOT", key))
        self.command("CLUSTER", "ADDSLOTSRANGE", "0", str(slot - 1), str(slot + 1), "16383")
        holder.command("CLUSTER", "ADDSLOTS", str(slot))
        self.command("CLUSTER", "MEET", "127.0.0.1", str(holder.port))
        while not all("cluster_state:ok" in server.command("CLUSTER", "INFO") for server in (self, holder)):
            time.sleep(POLL_SECONDS)

    def url(self, database: int = 0) -> str:
        return f"redis://{self._host}:{self.port}/{database}"

    def fresh_url(self) -> str:
        """The URL of a database in which nothing is."""
        return self.url(next(self._databases))

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def hang(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def redis_server(directory: Path, *options: str, tls: Path | None = None) -> Iterator[RedisServer]:
    """A server that keeps what it is told, unless the options say otherwise; killed with the context."""
    server = RedisServer(directory, *KEEPS, *options, tls=tls)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def free_port() -> int:
    """One that has a port 10,000 above it, which a server of a cluster takes too."""
    while True:
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            if port < 55_536:
                return port
