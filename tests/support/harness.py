"""The whole server in the test's own process: real settings, policy, keys, gRPC and engine loop, on a scripted model.

Only three things are not what `sluicegate serve` has: the engine runs in a thread, its model is scripted (or, where a
test asks for it, the smallest demo model), and the clock of tokens and policy stands still.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlsplit

import grpc
import httpx
import yaml
from certificates import Authority
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from issuer import AUDIENCE, ISSUER, KEYS, OPERATOR_KEY, FakeClock, token
from policies import Document, agreement, release, write_policy
from scripted_runner import ScriptedRunner, count_up

from sluicegate.auth import create_signing_key, write_signing_key
from sluicegate.server.app import Running, running
from sluicegate.server.audit import Verification, create_secret
from sluicegate.server.audit.problems import ProblemKind
from sluicegate.server.engine.client import EngineClient
from sluicegate.server.engine.messages import Figures, Load
from sluicegate.server.engine.runner import Runner
from sluicegate.server.engine.supervisor import Launch, Worker
from sluicegate.server.engine.thread import thread_launcher
from sluicegate.server.rpc.status import DETAILS_TRAILER, PUSHBACK_TRAILER, USAGE_TRAILER
from sluicegate.server.settings_file import load_settings
from sluicegate.server.tokenizer import Tokenizer
from sluicegate.v1.access_service_pb2_grpc import AccessServiceStub
from sluicegate.v1.engine_service_pb2_grpc import EngineServiceStub
from sluicegate.v1.finding_service_pb2_grpc import FindingServiceStub
from sluicegate.v1.generation_pb2 import Usage
from sluicegate.v1.generation_service_pb2_grpc import GenerationServiceStub
from sluicegate.v1.model_service_pb2_grpc import ModelServiceStub

if TYPE_CHECKING:
    from sluicegate.v1.access_service_pb2_grpc import AccessServiceAsyncStub
    from sluicegate.v1.engine_service_pb2_grpc import EngineServiceAsyncStub
    from sluicegate.v1.finding_service_pb2_grpc import FindingServiceAsyncStub
    from sluicegate.v1.generation_service_pb2_grpc import GenerationServiceAsyncStub
    from sluicegate.v1.model_service_pb2_grpc import ModelServiceAsyncStub

DEMO = Path(__file__).resolve().parents[2] / "server/sluicegate/server/demo/models/demo-xs"
TOKENIZER = Tokenizer.load(DEMO)
SMALL = "gpt2-124m"
"""The one model that servers of tests host unless told otherwise; it is public."""
MODELS = ("gpt2-124m", "gpt2-355m", "gpt2-774m", "gpt2-1558m", "gpt2-next")
EVERY_SCOPE = " ".join(
    [f"{action}:{model}" for action in ("generate", "score", "logprobs") for model in MODELS]
    + ["detect:watermark", "release:read", "release:withdraw", "findings:read", "findings:write", "findings:manage"]
    + ["engine:read", "engine:manage"]
)
AUDIT = {"directory": "audit", "key": "audit.jwk", "secret": "audit.secret", "replica": "gate-0"}
SCRIPTED_WEIGHTS = "00" * 32
"""Digest that scripted engines state."""
NO_LIMITERS = {"peer_calls_per_minute": 1_000_000, "denials_per_minute": 1_000_000}
"""Settings that keep the limiters out of the way: the clock of tests stands still, so nothing would refill."""
METRICS = {"listen": "127.0.0.1:0"}
"""The setting for tests that read metrics."""
LONG_SECONDS = 20.0
"""Deadline of calls that a working server answers at once: a broken one fails the test instead of hanging it."""

Found = TypeVar("Found", bound=Message)


@dataclass(slots=True)
class Engine:
    """What the scripted models say, and what happens to the thread that runs them. Used from the event loop."""

    says: Sequence[int] | None = None
    """Tokens of every output, before end-of-text; None: an endless count."""
    writes: Callable[[tuple[int, ...]], Sequence[int]] | None = None
    """Gives the tokens of an output by its prompt, before end-of-text, in the place of `says`."""
    pauses_after: int | None = None
    """Tokens that each output may have before the engine waits for `resume`."""
    clients: list[EngineClient] = field(default_factory=list)
    runners: dict[str, ScriptedRunner] = field(default_factory=dict)
    _resumed: threading.Event = field(default_factory=threading.Event)

    @property
    def requests(self) -> int:
        """How many it was sent that are not over, queued ones included."""
        return len(self.clients[-1]._streams)

    def say(self, text: str) -> list[int]:
        """Make every output this text; gives its tokens."""
        self.says = TOKENIZER.encode(text)
        return list(self.says)

    def pause_after(self, tokens: int) -> None:
        """Let each output have so many tokens, then stand still."""
        self.pauses_after = tokens
        self._resumed.clear()

    def resume(self) -> None:
        """Go on; for good."""
        self._resumed.set()

    def lose(self) -> None:
        """End the engine's thread after the step in progress, as if its process had died."""
        self.clients[-1].stop()
        self.resume()

    def script(self, candidate: int, position: int, prompt: tuple[int, ...]) -> int:
        """The token of an output at this position of its sequence."""
        index = position - len(prompt)
        if self.pauses_after is not None and index >= self.pauses_after:
            self._resumed.wait()
        says = self.says if self.writes is None else self.writes(prompt)
        if says is None:
            return count_up(candidate, position, prompt)
        return says[index] if index < len(says) else 0

    def load(self, message: Load) -> Runner:
        """A scripted model with the demo model's vocabulary."""
        runner = ScriptedRunner(
            slots=message.slots, context_length=1_024, vocabulary_size=TOKENIZER.size, script=self.script
        )
        self.runners[message.model] = runner
        return runner


@dataclass(frozen=True, slots=True)
class Server:
    """A running server, a connection to it, and everything that a test may turn."""

    running: Running
    channel: grpc.aio.Channel
    operator_channel: grpc.aio.Channel
    clock: FakeClock
    engine: Engine
    directory: Path

    @property
    def target(self) -> str:
        """Where it listens."""
        return self.running.address

    def channel_of(self, path: str) -> grpc.aio.Channel:
        """To the listener that has this method."""
        return self.operator_channel if path.startswith("/sluicegate.v1.EngineService/") else self.channel

    @property
    def generation(self) -> GenerationServiceAsyncStub:
        return cast("GenerationServiceAsyncStub", GenerationServiceStub(self.channel))

    @property
    def models(self) -> ModelServiceAsyncStub:
        return cast("ModelServiceAsyncStub", ModelServiceStub(self.channel))

    @property
    def access(self) -> AccessServiceAsyncStub:
        return cast("AccessServiceAsyncStub", AccessServiceStub(self.channel))

    @property
    def findings(self) -> FindingServiceAsyncStub:
        return cast("FindingServiceAsyncStub", FindingServiceStub(self.channel))

    @property
    def engines(self) -> EngineServiceAsyncStub:
        """On the operators' listener."""
        return cast("EngineServiceAsyncStub", EngineServiceStub(self.operator_channel))

    @property
    def health(self) -> Any:
        """Any: the stubs' types do not know that there is an aio channel."""
        return HealthStub(self.channel)

    def write_policy(self, plan: Document, *agreements: Document) -> None:
        """Change the policy's files; the server looks every 20 ms."""
        write_policy(self.directory / "policy", plan, *agreements)

    async def metrics(self) -> dict[str, float]:
        """Every sample of the metrics endpoint, by its name with labels as Prometheus writes them.

        Needs a server with the setting METRICS.
        """
        assert self.running.metrics_address is not None
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"http://{self.running.metrics_address}/metrics")
        lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def demo_plan(**changes: Any) -> Document:
    """The release plan of the access tests, with every model's weights on this machine; only of a model that a stage
    requires something of are they pinned, to those that scripted engines state.

    Of the public's quotas only that of a call is left: the others would be in most tests' way.
    """
    plan = release(**changes)
    plan["public"]["quotas"] = {"output_tokens_per_call": plan["public"]["quotas"]["output_tokens_per_call"]}
    for entry in plan["models"].values():
        entry["source"] = str(DEMO)
        entry.pop("weights_sha256", None)
    for requirement in (each for stage in plan["stages"] for each in stage.get("requires", [])):
        plan["models"][requirement["model"]]["weights_sha256"] = SCRIPTED_WEIGHTS
    return plan


def open_agreement(**changes: Any) -> Document:
    """The agreement of example-lab without terms that a plain call would break."""
    lenient: Document = {"networks": [], "token": {}, "purposes": [], "output": {}, "hours": None}
    return agreement(**{**lenient, **changes})


def write_server(
    directory: Path, plan: Document | None = None, agreements: Sequence[Document] = (), **settings: Any
) -> Path:
    """Write policy, keys and settings; gives the settings file. Sections of `settings` are added to the defaults."""
    (directory / "policy").mkdir(parents=True, exist_ok=True)
    write_policy(directory / "policy", plan or demo_plan(), *agreements)
    keys = {"keys": [key.public_jwk() for key in (*KEYS.values(), OPERATOR_KEY)]}
    (directory / "jwks.json").write_text(json.dumps(keys))
    write_audit_files(directory)
    defaults: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "policy": {"directory": "policy", "signatures": "off", "reload_seconds": 0.02},
        "tokens": {"issuers": [{"issuer": ISSUER, "audience": AUDIENCE, "keys": {"file": "jwks.json"}}]},
        "models": {SMALL: {"device": "cpu", "slots": 4}},
        "drain": {"announce_seconds": 0, "grace_seconds": 0},
        "metrics": {"listen": None},
        "operators": {"listen": "127.0.0.1:0"},
        "audit": AUDIT,
    }
    settings["limits"] = {**NO_LIMITERS, **settings.get("limits", {})}
    path = directory / "sluicegate.yaml"
    path.write_text(yaml.safe_dump({**defaults, **settings}))
    return path


def write_audit_files(directory: Path) -> None:
    """Key and secret of an audit log, as AUDIT names them, if they are not there yet."""
    if not (directory / AUDIT["key"]).exists():
        write_signing_key(directory / AUDIT["key"], create_signing_key("EdDSA"))
        create_secret(directory / AUDIT["secret"])


@asynccontextmanager
async def serving(
    directory: Path,
    plan: Document | None = None,
    agreements: Sequence[Document] = (),
    *,
    load: Callable[[Load], Runner] | None = None,
    credentials: grpc.ChannelCredentials | None = None,
    channel_options: Sequence[tuple[str, Any]] = (),
    **settings: Any,
) -> AsyncIterator[Server]:
    """A server and a channel to it. `load` builds the models instead of the script."""
    path = write_server(directory, plan, agreements, **settings)
    clock, engine = FakeClock(), Engine()
    launch = _watched(thread_launcher(load or engine.load), engine.clients)
    async with running(load_settings(path), launch, clock) as server:
        try:
            async with (
                connected(server.address, credentials, channel_options) as channel,
                connected(server.operators_address or server.address, credentials) as operator_channel,
            ):
                yield Server(server, channel, operator_channel, clock, engine, directory)
        finally:
            engine.resume()
    if settings.get("audit") is None:
        check_audit_log(directory)


def delete_state(directory: Path) -> None:
    """Delete the file of a server's state."""
    for path in directory.glob("sluicegate-state.db*"):
        path.unlink()


def check_audit_log(directory: Path) -> None:
    """The log of every server that a test ran must verify, and have an end for each call. Tests turn clocks back."""
    logs = Verification([directory / AUDIT["directory"]])
    logs.read_all()
    assert [each for each in logs.problems() if each.kind is not ProblemKind.CLOCK_WENT_BACK] == []
    assert [report.open_calls for report in logs.reports] == [0]


@asynccontextmanager
async def connected(
    target: str, credentials: grpc.ChannelCredentials | None = None, options: Sequence[tuple[str, Any]] = ()
) -> AsyncIterator[grpc.aio.Channel]:
    """A connection of its own, without retries, so that each answer is the server's first."""
    settings = list({"grpc.enable_retries": 0, "grpc.use_local_subchannel_pool": 1, **dict(options)}.items())
    if credentials is None:
        channel = grpc.aio.insecure_channel(target, options=settings)
    else:
        channel = grpc.aio.secure_channel(target, credentials, options=settings)
    async with channel:
        yield channel


def _watched(launch: Launch, clients: list[EngineClient]) -> Launch:
    """The same launcher; each worker's client is added to `clients`."""

    async def launched(on_figures: Callable[[Figures], None] | None) -> Worker:
        worker = await launch(on_figures)
        clients.append(worker.client)
        return worker

    return launched


def tls_settings(authority: Authority, *, with_clients: bool = False) -> Document:
    """A server's `tls` section with a fresh certificate; `with_clients`: each client must show one too."""
    path = authority.issue("server.example")
    own = {"certificate": str(path), "key": str(path.with_suffix(".key"))}
    return {**own, "client_ca": str(authority.certificate)} if with_clients else own


def tls_credentials(authority: Authority, name: str | None = None) -> grpc.ChannelCredentials:
    """A client's credentials that trust the authority and show a fresh certificate for the name, if there is one."""
    path = authority.issue(name) if name is not None else None
    return grpc.ssl_channel_credentials(
        authority.certificate.read_bytes(),
        path.with_suffix(".key").read_bytes() if path is not None else None,
        path.read_bytes() if path is not None else None,
    )


def bearer(value: str | None = None, /, **claims: object) -> tuple[tuple[str, str], ...]:
    """Metadata with this token, else with a good one that has every scope but for changed claims."""
    return (("authorization", f"Bearer {value or token(**{'scope': EVERY_SCOPE, **claims})}"),)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a caller reads of a refused or broken-off call."""

    code: grpc.StatusCode
    text: str
    reason: str
    facts: Mapping[str, str]
    violations: Mapping[str, str]
    request_id: str
    retry_after: float | None
    pushback: str | None
    usage: tuple[int, int] | None
    details: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """Code and reason, as the decision table writes them."""
        return f"{self.code.name} {self.reason}"


async def refusal(call: Any) -> Refusal:
    """Await a unary call, or read a stream to its end, and give the status that it must end with."""
    try:
        if hasattr(call, "read"):
            while await call.read() is not grpc.aio.EOF:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return read_refusal(error)
    raise AssertionError("the call was served")


def read_refusal(error: grpc.aio.AioRpcError) -> Refusal:
    """The parts of a status. Each status of ours has exactly one ErrorInfo and one RequestInfo."""
    trailers = dict(error.trailing_metadata() or ())
    assert DETAILS_TRAILER in trailers, f"{error.code()} {error.details()} is no status of ours"
    status = status_pb2.Status.FromString(bytes(trailers[DETAILS_TRAILER]))
    assert (status.code, status.message) == (error.code().value[0], error.details())
    info = _detail(status, error_details_pb2.ErrorInfo)
    bad = _detail(status, error_details_pb2.BadRequest)
    retry = _detail(status, error_details_pb2.RetryInfo)
    request = _detail(status, error_details_pb2.RequestInfo)
    assert info is not None
    assert info.domain == "sluicegate"
    assert request is not None
    pushback = trailers.get(PUSHBACK_TRAILER)
    return Refusal(
        code=error.code(),
        text=error.details() or "",
        reason=info.reason,
        facts=dict(info.metadata),
        violations={each.field: each.description for each in bad.field_violations} if bad is not None else {},
        request_id=request.request_id,
        retry_after=retry.retry_delay.ToNanoseconds() / 1e9 if retry is not None else None,
        pushback=str(pushback) if pushback is not None else None,
        usage=read_usage(trailers),
        details=tuple(detail.TypeName().rpartition(".")[2] for detail in status.details),
    )


def read_usage(trailers: Mapping[str, Any]) -> tuple[int, int] | None:
    """Prompt and output tokens of the usage trailer."""
    if USAGE_TRAILER not in trailers:
        return None
    usage = Usage.FromString(trailers[USAGE_TRAILER])
    return usage.prompt_tokens, usage.output_tokens


def _detail(status: status_pb2.Status, kind: type[Found]) -> Found | None:
    found = [detail for detail in status.details if detail.Is(kind.DESCRIPTOR)]
    assert len(found) <= 1
    if not found:
        return None
    message = kind()
    found[0].Unpack(message)
    return message


async def sent(server: Server, requests: int) -> None:
    """Wait until the engine was sent so many requests: a call that is under way may still wait for the disk."""

    async def are() -> bool:
        return server.engine.requests == requests

    await until(are)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that another thread, or the other end of a connection, is about to do."""
    async with asyncio.timeout(LONG_SECONDS):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.001)


def port_of(address: str) -> int:
    """The port of HOST:PORT."""
    port = urlsplit(f"//{address}").port
    assert port is not None
    return port
