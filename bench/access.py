"""What access costs each call, in microseconds: its token, the decision, and the reservation of its quotas.

    python -m bench.access                      state in a file of the temporary file system
    python -m bench.access --directory /var/tmp --json

The server's own objects in one process, without gRPC, one call after another: a partner's call under an agreement,
against a list of withdrawals. SQLite's file and the audit log lie in `--directory`: name one on the disk to measure.
Redis is measured too where `redis-server` is installed. bench/README.md says what is measured and what is not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.figures import quantile
from sluicegate.auth import (
    AccessRequest,
    Grant,
    IssuedBefore,
    Policy,
    TokenVerifier,
    TrustedIssuer,
    VerificationKey,
    Withdrawals,
    create_signing_key,
    issue_token,
    parse_key_set,
)
from sluicegate.auth.loading import parse_policy
from sluicegate.server import caller as server
from sluicegate.server.audit import Identity, Pseudonyms, open_audit_log
from sluicegate.server.auditing import Auditing, Log, NoLog
from sluicegate.server.caller import Caller
from sluicegate.server.gate import Gate
from sluicegate.server.judging import Judge
from sluicegate.server.live import LiveCalls
from sluicegate.server.metering import Meter
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.output import Usage
from sluicegate.server.rpc.authenticator import Authenticator, Context
from sluicegate.server.rpc.peer import Peers
from sluicegate.server.state import Store, StoreUnsuitable, Wanted, open_store
from sluicegate.server.watermark import Keyring
from sluicegate.server.withdrawing import PolicyInForce

ISSUER, AUDIENCE, CLIENT, MODEL = "https://issuer.example", "bench", "lab-app", "gpt2-774m"
AGREEMENTS = 100
WITHDRAWN = 1_000
"""Of tokens, and as many of clients; a list so long is a bad day."""
REQUEST = AccessRequest("generate", MODEL, "human-susceptibility")
WANTED, EMITTED = Wanted(output_tokens=512), 200
REDIS_STARTS_IN_SECONDS = 20.0

Samples = dict[str, list[float]]
"""Microseconds of each part, call by call."""


@dataclass(frozen=True, slots=True)
class Result:
    """One part: the medians over the rounds of each round's p50 and p99, and the spread of its p50."""

    part: str
    p50_us: float
    p99_us: float
    lowest_p50_us: float
    highest_p50_us: float


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.access", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--calls", type=int, default=1_000, help="of each round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count; one more goes before (%(default)s)")
    parser.add_argument("--directory", type=Path, default=None, help="on the disk to measure")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory, redis_url(Path(directory)) as redis:
        results = asyncio.run(measured(Path(directory), redis, arguments.calls, arguments.rounds))
    if arguments.json:
        print(json.dumps([asdict(result) for result in results], indent=2))
        return 0
    print(f"{'part':<46}    p50 µs    p99 µs   lowest-highest p50")
    for each in results:
        spread = f"{each.lowest_p50_us:.1f}-{each.highest_p50_us:.1f}"
        print(f"{each.part:<46}  {each.p50_us:>8.1f}  {each.p99_us:>8.1f}  {spread:>19}")
    if redis is None:
        print("redis-server is not installed: Redis was not measured")
    return 0


async def measured(directory: Path, redis: str | None, calls: int, rounds: int) -> list[Result]:
    """All parts. The first round warms up and does not count."""
    urls = {"SQLite": f"sqlite:///{directory}/state.db"} | ({"Redis": redis} if redis is not None else {})
    taken: list[Samples] = []
    for _ in range(rounds + 1):
        desk = Desk(calls)
        samples = of_tokens(desk) | of_decision(desk)
        for name, url in urls.items():
            async with opened(url) as store:
                samples |= await of_quotas(desk, store, name)
                samples |= await of_all(desk, store, name)
        samples |= await of_audit(desk, directory)
        taken.append(samples)
    return [result(part, [samples[part] for samples in taken[1:]]) for part in taken[0]]


def result(part: str, rounds: Sequence[list[float]]) -> Result:
    ordered = [sorted(samples) for samples in rounds]
    middles = [quantile(samples, 0.5) for samples in ordered]
    return Result(
        part=part,
        p50_us=statistics.median(middles),
        p99_us=statistics.median(quantile(samples, 0.99) for samples in ordered),
        lowest_p50_us=min(middles),
        highest_p50_us=max(middles),
    )


class Desk:
    """What a server judges calls with, and a token for each of `calls`, every one of them new to it."""

    def __init__(self, calls: int) -> None:
        self.key = create_signing_key(key_id="first")
        self.keys = Keys(parse_key_set(json.dumps({"keys": [self.key.public_jwk()]}).encode())["first"])
        self.tokens = [self._token() for _ in range(calls)]
        self.metrics = Metrics()
        policy = build_policy()
        self.metrics.allow(policy.models, {"example-lab"})
        self.policy = PolicyInForce(lambda: policy)
        self.policy.narrow(build_withdrawals())
        self.verifier = self.new_verifier()
        self.authenticator = Authenticator(self.verifier, Peers(), self.policy)
        self.gate = Gate(self.policy, self.metrics, withdrawals_age=lambda: 0.1, keyring=Keyring())
        self.judge, self.live = Judge(self.gate), LiveCalls()
        self.auditing = self._auditing(NoLog())

    def new_verifier(self) -> TokenVerifier:
        """One that remembers no token."""
        return TokenVerifier(
            [TrustedIssuer(ISSUER, AUDIENCE, frozenset({"ES256"}), self.keys)],
            clock=time.time,
        )

    def caller(self) -> Caller:
        return self.authenticator.identify(call_with(self.tokens[0]))

    def call(self, caller: Caller, log: Log | None = None) -> server.Call:
        """A call of the caller, whose opening goes to this log, or nowhere."""
        auditing = self.auditing if log is None else self._auditing(log)
        record = auditing.record(caller, str(uuid.uuid4()), "Generate", 0.0)
        return server.Call(caller, "bench", 0.0, None, record)

    def grant(self, call: server.Call) -> Grant:
        return self.gate.admit(call, REQUEST, counted_as="generate")

    def _auditing(self, log: Log) -> Auditing:
        return Auditing(log, Pseudonyms(bytes(32)), self.policy, signatures_checked=False, denials_per_minute=120)

    def _token(self) -> str:
        return issue_token(
            self.key,
            issuer=ISSUER,
            audience=AUDIENCE,
            subject="alice",
            client_id=CLIENT,
            scopes=[f"{action}:{MODEL}" for action in ("generate", "score", "logprobs")],
            now=time.time(),
            lifetime_seconds=900,
        )


class Keys:
    """A key set of one."""

    is_stale = False

    def __init__(self, key: VerificationKey) -> None:
        self._keys = {key.key_id: key}

    def find(self, key_id: str) -> VerificationKey | None:
        return self._keys.get(key_id)

    def request_refresh(self) -> None:
        """There is nothing to refresh."""


class Call:
    """As much of a gRPC call as is looked at to tell who makes it."""

    def __init__(self, token: str) -> None:
        self._metadata = (("user-agent", "bench"), ("authorization", f"Bearer {token}"))

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata

    def peer(self) -> str:
        return "ipv4:192.0.2.7:50000"

    def auth_context(self) -> dict[str, list[bytes]]:
        return {}


def call_with(token: str) -> Context:
    return cast(Context, Call(token))


def of_tokens(desk: Desk) -> Samples:
    """A token that comes for the first time, and one that the verifier remembers."""
    peer, verifier = desk.caller().peer, desk.new_verifier()
    first = [timed(lambda token=token: verifier.verify(token, peer)) for token in desk.tokens]  # type: ignore[misc]
    again = [timed(lambda: verifier.verify(desk.tokens[-1], peer)) for _ in desk.tokens]
    return {"token, for the first time": first, "token, remembered": again}


def of_decision(desk: Desk) -> Samples:
    caller = desk.caller()
    return {
        "withdrawals of token and caller": [
            timed(lambda: desk.gate.check_caller(caller.principal)) for _ in desk.tokens
        ],
        "decision": [timed(lambda: desk.gate.decide(caller, REQUEST)) for _ in desk.tokens],
    }


async def of_quotas(desk: Desk, store: Store, name: str) -> Samples:
    """What a call holds, from when it asks until it has it, and from its end until that is booked."""
    caller, meter = desk.caller(), Meter(store, desk.policy)
    call = desk.call(caller)
    grant = desk.grant(call)
    reserving: list[float] = []
    settling: list[float] = []
    for _ in desk.tokens:
        usage = Usage(prompt_tokens=12)
        with desk.live.entry(call, grant, usage) as entry:
            begun = time.perf_counter()
            async with meter.reserved(entry, caller, usage, WANTED):
                held = time.perf_counter()
                usage.output_tokens = EMITTED
                ended = time.perf_counter()
            settling.append((time.perf_counter() - ended) * 1e6)
            reserving.append((held - begun) * 1e6)
    return {f"reservation, {name}": reserving, f"settlement, {name}": settling}


async def of_all(desk: Desk, store: Store, name: str) -> Samples:
    """Everything from a call's metadata to the point where it would queue for the engine, by a known token.

    The audit log's opening is written nowhere: its way to the disk stands apart.
    """
    meter, context = Meter(store, desk.policy), call_with(desk.tokens[0])
    before: list[float] = []
    for _ in desk.tokens:
        usage = Usage(prompt_tokens=12)
        begun = time.perf_counter()
        caller = desk.authenticator.identify(context)
        call = desk.call(caller)
        grant = desk.grant(call)
        with desk.live.entry(call, grant, usage) as entry, desk.judge.watching(entry, caller, REQUEST):
            async with meter.reserved(entry, caller, usage, WANTED):
                await call.record.open(grant, reserved_tokens=512)
                before.append((time.perf_counter() - begun) * 1e6)
                usage.output_tokens = EMITTED
    return {f"all of it before the engine, {name}": before}


async def of_audit(desk: Desk, directory: Path) -> Samples:
    """An opening, made of what is known of the call; and until it is on the disk, which calls at once share."""
    caller = desk.caller()
    grant = desk.grant(desk.call(caller))
    with tempfile.TemporaryDirectory(dir=directory) as log_directory:
        path = Path(log_directory) / "log"
        async with open_audit_log(path, Identity("bench", "bench"), Ed25519PrivateKey.generate()) as log:
            taken = {
                "audit opening, not written": [await opening_time(desk, caller, grant, NoLog()) for _ in desk.tokens],
                "audit opening, on disk": [await opening_time(desk, caller, grant, log) for _ in desk.tokens],
            }
    return taken


async def opening_time(desk: Desk, caller: Caller, grant: Grant, log: Log) -> float:
    call = desk.call(caller, log)
    call.record.asks("generate", REQUEST)
    begun = time.perf_counter()
    await call.record.open(grant, reserved_tokens=512)
    taken = (time.perf_counter() - begun) * 1e6
    call.record.close("OK", None, None)
    return taken


def timed(work: Callable[[], object]) -> float:
    """Microseconds."""
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1e6


def build_policy() -> Policy:
    """A plan of two models and many agreements, of which one is the caller's."""
    models = {name: {"parameters": 1, "source": "./weights", "license": "MIT"} for name in ("gpt2-124m", MODEL)}
    release = {
        "apiVersion": "sluicegate/release/v1",
        "models": models,
        "stages": [{"id": "s1", "name": "first", "open": {"gpt2-124m": "public", MODEL: "partner"}}],
        "active": "s1",
        "public": {"anonymous": "refuse", "quotas": {"output_tokens_per_call": 256}},
    }
    documents = [agreement(f"agr-{number}", f"lab-app-{number}") for number in range(AGREEMENTS)]
    documents.append(agreement("agr-example-lab", CLIENT))
    contents = {f"agreements/{each['id']}.yaml": each for each in documents} | {"release.yaml": release}
    return parse_policy(Path("/policy"), {name: json.dumps(each).encode() for name, each in contents.items()}, None)


def agreement(name: str, client: str) -> dict[str, object]:
    """With a term of every kind that a call can meet without a certificate, and limits that it does not reach."""
    quotas = ("concurrent_streams", "requests_per_minute", "output_tokens_per_minute", "output_tokens_per_day")
    return {
        "id": name,
        "partner": "example-lab",
        "status": "active",
        "legal": {"document": "Agreement", "sha256": "0" * 64, "signed_on": "2026-01-12"},
        "valid": {"from": "2026-01-20T00:00:00Z", "until": "2099-01-01T00:00:00Z"},
        "clients": [{"issuer": ISSUER, "client": client}],
        "models": [MODEL],
        "actions": ["generate", "score"],
        "purposes": ["human-susceptibility"],
        "timezone": "America/New_York",
        "token": {"max_lifetime": "900s"},
        "networks": ["198.51.100.0/24", "192.0.2.0/24"],
        "hours": {"weekdays": "07:00-22:00", "mode": "signal"},
        "quotas": {**dict.fromkeys(quotas, 1_000_000_000), "output_tokens_per_call": 512},
    }


def build_withdrawals() -> Withdrawals:
    """Much that is closed, and nothing of it this caller's."""
    names = [(ISSUER, f"withdrawn-{number}") for number in range(WITHDRAWN)]
    before = IssuedBefore(ISSUER, int(time.time()) - 60, client="another")
    return Withdrawals(tokens=frozenset(names), clients=frozenset(names), issued_before=(before,) * 10)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    store = await open_store(url)
    try:
        yield store
    finally:
        await store.close()


@contextmanager
def redis_url(directory: Path) -> Iterator[str | None]:
    """A Redis of our own that keeps what it is told, as the server asks; None where there is no redis-server."""
    program = shutil.which("redis-server")
    if program is None:
        yield None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    files = directory / "redis"
    files.mkdir()
    keeps = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
    command = [program, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(files), *keeps]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:  # noqa: S603
        try:
            wait_for_port(port)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()


def wait_for_port(port: int) -> None:
    limit = time.monotonic() + REDIS_STARTS_IN_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > limit:
                raise StoreUnsuitable("redis-server does not answer") from None
            time.sleep(0.02)
        else:
            return


if __name__ == "__main__":
    sys.exit(main())
