"""What operators ask of a replica's engines: `client.engine`, of a client whose target is the operators' listener."""

# A timeout here is a gRPC deadline, as in client.py.
# ruff: noqa: ASYNC109

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sluicegate.client import engine_wire
from sluicegate.client.calls import Caller, Deadline
from sluicegate.client.engines import ActiveRequest, DrainPlan, EngineLoad, ModelLoad
from sluicegate.client.loop_thread import LoopThread
from sluicegate.v1 import engine_service_pb2

if TYPE_CHECKING:
    from sluicegate.v1.engine_service_pb2_grpc import EngineServiceAsyncStub

_PAGE_SIZE = 100


class EngineOperations:
    """Each call may raise what those of Client may. `deadline` gives that of a call from its timeout in seconds."""

    def __init__(
        self, caller: Caller, stub: Callable[[], EngineServiceAsyncStub], deadline: Callable[[float | None], Deadline]
    ) -> None:
        self._caller = caller
        self._stub = stub
        self._deadline = deadline

    async def load(self, *, timeout: float | None = None) -> tuple[EngineLoad, ...]:
        """What each engine of the replica has to do now. Needs the scope `engine:read`, as does the next."""
        request = engine_service_pb2.GetLoadRequest()
        return engine_wire.load(await self._caller.unary(self._stub().GetLoad, request, self._deadline(timeout)))

    async def requests(self, *, timeout: float | None = None) -> tuple[ActiveRequest, ...]:
        """The calls under way on the replica, the oldest first."""
        deadline = self._deadline(timeout)
        found: list[ActiveRequest] = []
        page_token = ""
        while True:
            request = engine_service_pb2.ListActiveRequestsRequest(page_size=_PAGE_SIZE, page_token=page_token)
            page = await self._caller.unary(self._stub().ListActiveRequests, request, deadline)
            found.extend(map(engine_wire.active, page.requests))
            page_token = page.next_page_token
            if not page_token:
                return tuple(found)

    async def cancel(
        self, request_id: str, justification: str, *, validate_only: bool = False, timeout: float | None = None
    ) -> ActiveRequest:
        """End a call wherever it waits; gives it as it was. Needs the scope `engine:manage`.

        `justification` is for the audit log. With `validate_only` nothing is ended. Raises InvalidRequest, with reason
        REQUEST_UNKNOWN, if no such call is under way on this replica.
        """
        request = engine_wire.cancel_request(request_id, justification, validate_only=validate_only)
        answer = await self._caller.unary(self._stub().CancelRequest, request, self._deadline(timeout))
        return engine_wire.active(answer.request)

    async def load_model(
        self, model: str, justification: str, *, validate_only: bool = False, timeout: float | None = None
    ) -> ModelLoad:
        """Have a model of the server's settings answer that was unloaded; gives it as it is then.

        Needs the scope `engine:manage`, as does the next. A large one takes its time: what is begun goes on though this
        call's time is over. Raises InvalidRequest, with reason MODEL_LOAD_FAILED, if it cannot be loaded.
        """
        request = engine_wire.load_request(model, justification, validate_only=validate_only)
        answer = await self._caller.unary(self._stub().LoadModel, request, self._deadline(timeout))
        return engine_wire.model_load(answer.model)

    async def unload_model(
        self,
        model: str,
        justification: str,
        *,
        grace_seconds: float | None = None,
        validate_only: bool = False,
        timeout: float | None = None,
    ) -> ModelLoad:
        """Take a model out of the replica, and free its memory; gives it as it is then.

        Its calls may go on for `grace_seconds`, for which this one waits; without, as long as at a drain.
        """
        request = engine_wire.unload_request(model, justification, grace_seconds, validate_only=validate_only)
        answer = await self._caller.unary(self._stub().UnloadModel, request, self._deadline(timeout))
        return engine_wire.model_load(answer.model)

    async def drain(
        self, justification: str, *, validate_only: bool = False, timeout: float | None = None
    ) -> DrainPlan:
        """Take the replica out of service, as SIGTERM would. Needs the scope `engine:manage`.

        Health says so before the answer; the process ends later. With `validate_only` nothing is stopped.
        """
        request = engine_wire.drain_request(justification, validate_only=validate_only)
        return engine_wire.drain_plan(await self._caller.unary(self._stub().Drain, request, self._deadline(timeout)))


class SyncEngineOperations:
    """`EngineOperations` with blocking methods of the same names and arguments."""

    def __init__(self, operations: EngineOperations, loop: LoopThread) -> None:
        self._operations = operations
        self._loop = loop

    def load(self, *, timeout: float | None = None) -> tuple[EngineLoad, ...]:
        """What each engine of the replica has to do now."""
        return self._loop.run(self._operations.load(timeout=timeout))

    def requests(self, *, timeout: float | None = None) -> tuple[ActiveRequest, ...]:
        """The calls under way on the replica, the oldest first."""
        return self._loop.run(self._operations.requests(timeout=timeout))

    def cancel(
        self, request_id: str, justification: str, *, validate_only: bool = False, timeout: float | None = None
    ) -> ActiveRequest:
        """End a call wherever it waits; gives it as it was."""
        return self._loop.run(
            self._operations.cancel(request_id, justification, validate_only=validate_only, timeout=timeout)
        )

    def load_model(
        self, model: str, justification: str, *, validate_only: bool = False, timeout: float | None = None
    ) -> ModelLoad:
        """Have a model of the server's settings answer that was unloaded; gives it as it is then."""
        return self._loop.run(
            self._operations.load_model(model, justification, validate_only=validate_only, timeout=timeout)
        )

    def unload_model(
        self,
        model: str,
        justification: str,
        *,
        grace_seconds: float | None = None,
        validate_only: bool = False,
        timeout: float | None = None,
    ) -> ModelLoad:
        """Take a model out of the replica, and free its memory; gives it as it is then."""
        return self._loop.run(
            self._operations.unload_model(
                model, justification, grace_seconds=grace_seconds, validate_only=validate_only, timeout=timeout
            )
        )

    def drain(self, justification: str, *, validate_only: bool = False, timeout: float | None = None) -> DrainPlan:
        """Take the replica out of service, as SIGTERM would."""
        return self._loop.run(self._operations.drain(justification, validate_only=validate_only, timeout=timeout))
