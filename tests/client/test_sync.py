from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest
from client_server import FakeServer, Hold, delta, finished, generated, started, started_message

from sluicegate.client import (
    Cancelled,
    ConfigurationError,
    Delta,
    InvalidRequest,
    ModelTarget,
    SluicegateError,
    SyncClient,
    Usage,
)
from sluicegate.v1 import (
    access_service_pb2,
    generation_service_pb2,
    model_service_pb2,
    release_service_pb2,
    withdrawal_service_pb2,
)


@pytest.fixture
def client(server: FakeServer) -> Iterator[SyncClient]:
    with SyncClient(server.target) as client:
        yield client


class Background:
    """A call in another thread, and what it ended with."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._call()
        except BaseException as error:
            self.error = error

    def ended(self) -> BaseException | None:
        self._thread.join(20)
        assert not self._thread.is_alive()
        return self.error


def test_every_method_answers_as_the_asynchronous_one_does(server: FakeServer, client: SyncClient) -> None:
    server.will("Generate", [generated("text")])
    server.will("Score", [generation_service_pb2.ScoreResponse(started=started_message())])
    server.will("Tokenize", [generation_service_pb2.TokenizeResponse()])
    server.will("Detokenize", [generation_service_pb2.DetokenizeResponse(text="t")])
    server.will("ListModels", [model_service_pb2.ListModelsResponse(models=[model_service_pb2.Model(id="a")])])
    server.will("GetModel", [model_service_pb2.GetModelResponse(model=model_service_pb2.Model(id="a"))])
    server.will("GetCallerIdentity", [access_service_pb2.GetCallerIdentityResponse(subject="alice")])
    server.will("ListQuotas", [access_service_pb2.ListQuotasResponse()])
    server.will("CheckAccess", [access_service_pb2.CheckAccessResponse(allowed=True)])
    server.will(
        "GetReleasePlan",
        [release_service_pb2.GetReleasePlanResponse(plan=release_service_pb2.ReleasePlan(active_stage="s1"))],
    )
    server.will("ListStageTransitions", [release_service_pb2.ListStageTransitionsResponse()])
    server.will("SimulatePolicy", [release_service_pb2.SimulatePolicyResponse(opens_wider=True)])

    assert client.generate("m", "x", priority=1).text == "text"
    assert client.score("m", "x", priority=2).tokens == ()
    assert client.tokenize("m", "x") == ()
    assert client.detokenize("m", [1]).text == "t"
    assert client.models()[0].id == "a"
    assert client.model("a").id == "a"
    assert client.whoami().subject == "alice"
    assert client.quotas("m") == ()
    assert client.check("m").allowed
    assert client.get_release_plan().active_stage == "s1"
    assert client.list_stage_transitions() == ()
    assert client.simulate_policy({"release.yaml": b""}).opens_wider
    asked = (generation_service_pb2.GenerateRequest, generation_service_pb2.ScoreRequest)
    assert [call.asked(kind).priority for call, kind in zip(server.calls, asked, strict=False)] == [1, 2]


def test_a_call_that_another_side_holds_is_ended_by_its_id(server: FakeServer, client: SyncClient) -> None:
    server.will("CancelGeneration", [generation_service_pb2.CancelGenerationResponse()])

    client.cancel_generation("r-1")

    assert server.calls[0].request == generation_service_pb2.CancelGenerationRequest(request_id="r-1")


def test_every_method_of_operators_answers_as_the_asynchronous_one_does(server: FakeServer, client: SyncClient) -> None:
    pb = withdrawal_service_pb2
    made = pb.Withdrawal(id="w-1", target=pb.WithdrawalTarget(model="m"))
    server.will("CreateWithdrawal", [pb.CreateWithdrawalResponse(withdrawal=made)])
    server.will("ListWithdrawals", [pb.ListWithdrawalsResponse(withdrawals=[made])])
    server.will("LiftWithdrawal", [pb.LiftWithdrawalResponse()])

    created = client.create_withdrawal(ModelTarget("m"), "a drill", validate_only=True)
    found = client.list_withdrawals()
    client.lift_withdrawal("w-1", "over", signatures={"lead": "AAAA"}, validate_only=True)

    assert (created.id, created.target) == ("w-1", ModelTarget("m"))
    assert found == (created,)
    asked = [call.request for call in server.calls]
    signature = pb.LiftingSignature(signer="lead", value="AAAA")
    assert asked == [
        pb.CreateWithdrawalRequest(target=made.target, justification="a drill", validate_only=True),
        pb.ListWithdrawalsRequest(page_size=100),
        pb.LiftWithdrawalRequest(id="w-1", justification="over", signatures=[signature], validate_only=True),
    ]


def test_a_stream_is_a_plain_for(server: FakeServer, client: SyncClient) -> None:
    server.will("StreamGenerate", [started(), delta("Once "), delta("upon", output_tokens=2), finished()])

    with client.stream("m", "x") as stream:
        text = "".join(event.text for event in stream if isinstance(event, Delta))

    assert text == "Once upon"
    assert stream.started is not None
    assert stream.usage == Usage(prompt_tokens=3, output_tokens=2)


def test_leaving_a_stream_ends_it_on_the_server(server: FakeServer, client: SyncClient) -> None:
    server.will("StreamGenerate", [started(), Hold()])

    with client.stream("m", "x") as stream:
        next(stream)

    assert server.calls[0].wait_for_end()


def test_another_thread_can_cancel_a_read_that_waits(server: FakeServer, client: SyncClient) -> None:
    server.will("StreamGenerate", [started(), Hold()])
    stream = client.stream("m", "x")
    next(stream)
    reading = Background(lambda: next(stream))

    stream.cancel()

    assert isinstance(reading.ended(), Cancelled)


def test_models_are_watched_in_a_plain_for(server: FakeServer, client: SyncClient) -> None:
    answer = model_service_pb2.WatchModelsResponse(models=[model_service_pb2.Model(id="a")])
    server.will("WatchModels", [answer], [answer, Hold()])

    with client.watch_models() as watch:
        ended = [models[0].id for models in watch]
    with client.watch_models() as watch:
        next(watch)
        watch.cancel()
        with pytest.raises(Cancelled):
            next(watch)

    assert ended == ["a"]


def test_a_request_is_refused_at_once(client: SyncClient) -> None:
    with pytest.raises(InvalidRequest):
        client.stream("m", "\ud800")


def test_closing_ends_the_calls_of_other_threads(server: FakeServer) -> None:
    server.will("Generate", [Hold()])
    server.will("StreamGenerate", [started(), Hold()])
    client = SyncClient(server.target)
    stream = client.stream("m", "x")
    next(stream)
    calls = [Background(lambda: client.generate("m", "x")), Background(lambda: next(stream))]
    server.wait_for_calls(2)

    client.close()

    assert [isinstance(call.ended(), SluicegateError) for call in calls] == [True, True]


def test_closing_does_not_wait_for_a_token_that_never_comes(server: FakeServer) -> None:
    asked = threading.Event()
    client = SyncClient(server.target, token=NeverToken(asked))
    call = Background(client.whoami)
    assert asked.wait(20)

    client.close()

    assert isinstance(call.ended(), SluicegateError)


class NeverToken:
    """A token source that is asked and does not answer."""

    def __init__(self, asked: threading.Event) -> None:
        self._asked = asked

    async def token(self) -> str:
        self._asked.set()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    def forget(self, token: str) -> None: ...


def test_a_closed_client_cannot_be_used(server: FakeServer) -> None:
    server.will("StreamGenerate", [started(), Hold()])
    client = SyncClient(server.target)
    stream = client.stream("m", "x")

    client.close()
    client.close()

    with pytest.raises(ConfigurationError, match="closed"):
        client.whoami()
    with pytest.raises(ConfigurationError, match="closed"):
        next(stream)


def test_a_stream_may_be_left_after_its_client(server: FakeServer) -> None:
    server.will("StreamGenerate", [started(), Hold()])
    client = SyncClient(server.target)

    with client.stream("m", "x") as stream:
        next(stream)
        client.close()
        stream.cancel()

    assert server.calls[0].wait_for_end()


def test_closing_leaves_no_thread_behind(server: FakeServer) -> None:
    SyncClient(server.target).close()

    assert "sluicegate-client" not in [thread.name for thread in threading.enumerate()]


def test_threads_share_a_client(server: FakeServer, client: SyncClient) -> None:
    server.will("Generate", [generated("text")])

    calls = [Background(lambda: client.generate("m", "x")) for _ in range(8)]

    assert [call.ended() for call in calls] == [None] * 8
    assert len(server.calls) == 8
