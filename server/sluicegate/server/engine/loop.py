"""The engine loop: takes commands, steps the model whose turn it is, tells the front ends what happened."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import wait
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import msgspec
import structlog
from msgspec import structs

from sluicegate.server.engine.drafters import Drafter, DraftModel, PromptLookup, draft_twin
from sluicegate.server.engine.errors import EngineFailed, FrontEndGone, ModelLoadError, StepError
from sluicegate.server.engine.loading import Loading, Start, in_loop
from sluicegate.server.engine.lookahead import Lookahead
from sluicegate.server.engine.messages import (
    Abort,
    Command,
    Event,
    Figures,
    Load,
    Loaded,
    LoadFailed,
    Ping,
    Pong,
    Refused,
    Score,
    StepEvents,
    Stop,
    Submit,
    Unload,
    read,
)
from sluicegate.server.engine.runner import OverlappingRunner, Runner
from sluicegate.server.engine.scheduler import Scheduler
from sluicegate.server.engine.speculation import SpeculativeRunner
from sluicegate.server.engine.steps import NOTHING, OverlappedSteps, PlainSteps, Steps, Taken
from sluicegate.server.engine.turns import Turns

# Steps of one model that may fail with no step of any model in between that succeeds. The first can be one request's
# fault or a passing lack of memory; a third means that the device or its context is broken (CUDA errors stick), which
# only a new process cures. A step of another model that succeeds proves that it is not: its streams are worth more
# than a restart that would not cure the one model.
FAILURES_IN_A_ROW = 3
LOADING_SECONDS = 0.05  # how long a loaded model may wait for an idle loop to take it
COMMANDS_PER_TURN = 1_000  # a flood of commands cannot keep running streams from their next step

log = structlog.get_logger()


class Port(Protocol):
    """Where commands come from and events go to. Engine thread only."""

    def receive(self, timeout_seconds: float | None) -> tuple[str, bytes] | None:
        """The next message and its sender; None if none came in time. Without a timeout: wait."""

    def send(self, front_end: str, data: bytes) -> None:
        """Send without waiting. Raises FrontEndGone if no one is there to receive it."""


@dataclass(slots=True)
class HostedModel:
    """A loaded model and its scheduler."""

    load: Load
    loaded: Loaded
    runner: Runner
    scheduler: Scheduler
    steps: Steps
    failures: int = 0
    shown_busy: bool = False  # what the last Figures said


class EngineLoop:
    """Hosts models on one device, for any number of front ends. Runs in the thread that calls `run`.

    `load` builds a model's runner; where, says `start`. One is loaded at a time, in the order in which they were asked
    for. In the loop's own thread the other models stand still meanwhile, and `Ping` goes unanswered.
    """

    def __init__(
        self,
        port: Port,
        load: Callable[[Load], Runner],
        clock: Callable[[], float] = time.monotonic,
        start: Start = in_loop,
    ) -> None:
        self._port = port
        self._load = load
        self._clock = clock
        self._start = start
        self._loading: Loading | None = None
        self._loads: deque[tuple[str, Load]] = deque()
        """Those whose turn has not come."""
        self._models: dict[str, HostedModel] = {}
        self._turns = Turns()
        self._front_ends: set[str] = set()
        self._stopped = False
        self._decoder = msgspec.msgpack.Decoder(Command)
        self._encoder = msgspec.msgpack.Encoder()

    def run(self) -> None:
        """Serve until `Stop`. Raises EngineFailed when only a new process can help."""
        while not self._stopped:
            self._take_commands()
            self._go_on_loading()
            self._step_next()
            self._tell_all()
        if self._loading is not None:  # it writes into memory that would be taken from it
            wait([self._loading.runner])

    def _is_idle(self) -> bool:
        """Whether there is nothing to step and nothing to tell. The books are checked then."""
        hosts = self._models.values()
        if any(hosted.steps.has_work or hosted.shown_busy for hosted in hosts):
            return False
        for hosted in hosts:
            hosted.scheduler.check()
        return True

    def _take_commands(self) -> None:
        """Take what has come; wait for something where there is nothing to do.

        No variable here or in `run` may hold a model: one that is unloaded must be freed before the next is loaded.
        """
        idle_seconds = None if self._loading is None else LOADING_SECONDS
        received = self._port.receive(idle_seconds if self._is_idle() else 0)
        taken = 0
        while received is not None:
            self._take(*received)
            taken += 1
            if self._stopped or taken == COMMANDS_PER_TURN:
                return
            received = self._port.receive(0)

    def _take(self, front_end: str, data: bytes) -> None:
        try:
            command = read(self._decoder, data)
        except msgspec.DecodeError as error:
            log.warning("command_dropped", front_end=front_end, bytes=len(data), error=type(error).__name__)
            return
        self._front_ends.add(front_end)
        match command:
            case Submit() | Score():
                self._submit(front_end, command)
            case Abort():
                for hosted in self._models.values():
                    hosted.scheduler.abort(front_end, command.request, command.candidate)
            case Load():
                self._loads.append((front_end, command))
                self._go_on_loading()
            case Unload():
                self._unload(command.model)
            case Ping():
                self._send(front_end, [Pong(number=command.number)])
            case Stop():
                self._stopped = True

    def _submit(self, front_end: str, message: Submit | Score) -> None:
        hosted = self._models.get(message.model)
        if hosted is None:
            self._send(front_end, [Refused(request=message.request, cause="model: not loaded")])
        elif hosted.scheduler.knows(front_end, message.request):
            log.warning("request_dropped", front_end=front_end, request=message.request, cause="live already")
        else:
            hosted.scheduler.submit(front_end, message)

    # Models

    def _go_on_loading(self) -> None:
        """Take what was loaded, and begin what is to be loaded next."""
        while self._loading is not None or self._loads:
            if self._loading is None:
                self._begin_load(*self._loads.popleft())
            if self._loading is not None:
                if not self._loading.runner.done():
                    return
                self._finish_load(self._loading)

    def _finish_load(self, loading: Loading) -> None:
        self._loading = None
        self._send(loading.front_end, [self._open(loading)])

    def _begin_load(self, front_end: str, load: Load) -> None:
        """Answer at once if the model is loaded already."""
        hosted = self._models.get(load.model)
        if hosted is None:
            log.info("model_loading", model=load.model, device=load.device, dtype=load.dtype)
            draft = None if load.speculation is None else self._models.get(load.speculation.draft or "")
            work = partial(self._load_runner, load, None if draft is None else draft.runner)
            self._loading = Loading(front_end, load, self._clock(), self._start(load, work))
        elif hosted.load == load:
            self._send(front_end, [hosted.loaded])  # another front end of the same engine
        else:
            message = f"{load.model} is loaded with other settings; unload it first"
            self._send(front_end, [LoadFailed(model=load.model, message=message)])

    def _open(self, loading: Loading) -> Loaded | LoadFailed:
        load = loading.load
        try:
            runner = loading.runner.result()
        except ModelLoadError as error:
            log.error("model_load_failed", model=load.model, error=str(error))
            return LoadFailed(model=load.model, message=str(error))
        except Exception as error:
            log.exception("model_load_failed", model=load.model)
            message = f"{load.model}: unexpected {type(error).__name__}; the engine's log has the cause"
            return LoadFailed(model=load.model, message=message)
        facts = runner.facts
        loaded = Loaded(
            model=load.model,
            parameters=facts.parameters,
            context_length=facts.context_length,
            vocabulary_size=facts.vocabulary_size,
            eos_token_id=facts.eos_token_id,
            weights_sha256=facts.weights_sha256,
            dtype=facts.dtype,
            device=facts.device,
            slots=facts.slots,
            cache_bytes=facts.cache_bytes,
            seconds=self._clock() - loading.began,
        )
        scheduler = Scheduler(runner, step_tokens=load.step_tokens, prefix_reuse=load.prefix_reuse, clock=self._clock)
        steps: Steps = PlainSteps(scheduler, runner, self._clock)
        if isinstance(runner, OverlappingRunner):
            steps = OverlappedSteps(scheduler, runner)
        self._models[load.model] = HostedModel(load, loaded, runner, scheduler, steps, shown_busy=True)
        log.info("model_loaded", model=load.model, slots=facts.slots, seconds=round(loaded.seconds, 3))
        return loaded

    def _load_runner(self, load: Load, draft: Runner | None) -> Runner:
        """The model's runner, with its drafter before it if it has one. Raises ModelLoadError.

        May run beside the loop. `draft`: of the model that is to draft for it, if that is loaded.
        """
        speculation = load.speculation
        if speculation is None:
            return self._load(load)
        drafter: Drafter
        if speculation.draft is None:
            runner, drafter = self._load(load), PromptLookup()
        else:
            setting = f"models.{load.model}.speculation.draft"
            if draft is None:
                raise ModelLoadError(f"{setting}: {speculation.draft} is not loaded on {load.device}; host it there")
            slot_bytes = draft.facts.cache_bytes // draft.facts.slots
            runner = self._load(structs.replace(load, draft_slot_bytes=slot_bytes))
            drafter = DraftModel(draft_twin(draft, runner.facts, load.watermark, setting), load.step_tokens)
        return SpeculativeRunner(runner, drafter, Lookahead(speculation.tokens), self._clock)

    def _unload(self, model: str) -> None:
        hosted = self._models.pop(model, None)
        if hosted is not None:
            hosted.scheduler.abort_all()
            while hosted.steps.has_work:  # what is in flight writes into memory that is to be freed
                self._step(hosted)
            self._tell(hosted)
            log.info("model_unloaded", model=model)

    # Steps

    def _step_next(self) -> None:
        """Run one step of the model whose turn it is; its sequences that are at fault end as FAILED if that raises."""
        busy = {name for name, hosted in self._models.items() if hosted.steps.has_work}
        if not busy or self._stopped:
            return
        name = self._turns.next(busy)
        hosted = self._models[name]
        began = self._clock()
        taken = self._step(hosted)
        is_fruitless = taken is None or taken.shortage is not None
        seconds = self._clock() - began if taken is None or is_fruitless else taken.seconds
        self._turns.charge(name, seconds, hosted.load.weight)
        if is_fruitless:  # first another model may show that the device is sound, see FAILURES_IN_A_ROW, or free memory
            self._turns.postpone(name)

    def _step(self, hosted: HostedModel) -> Taken | None:
        """Go on by a step of one model; None if it failed. To want for memory is no failure."""
        try:
            taken = hosted.steps.turn()
        except Exception as error:
            self._fail(hosted, error)
            return None
        if taken.shortage is not None:
            ended, cause = taken.shortage.ended, taken.shortage.cause
            log.warning("step_out_of_memory", model=hosted.load.model, sequences_failed=ended, error=cause)
        if taken.step.chunks:
            for sound in self._models.values():
                sound.failures = 0
        self._tell(hosted, taken)
        return taken

    def _fail(self, hosted: HostedModel, error: Exception) -> None:
        """End the sequences at fault, or all that run where that is not known."""
        scheduler, name = hosted.scheduler, hosted.load.model
        if isinstance(error, StepError) and (ended := scheduler.fail_running(error.slots)):
            log.error("sequences_failed", model=name, sequences=ended, error=str(error))
            return
        hosted.failures += 1
        log.error("step_failed", model=name, failures=hosted.failures, exc_info=error)
        scheduler.fail_running()
        if hosted.failures == FAILURES_IN_A_ROW:
            self._tell(hosted)
            raise EngineFailed(f"{name}: {FAILURES_IN_A_ROW} steps failed in a row") from error

    def _tell_all(self) -> None:
        for hosted in self._models.values():
            self._tell(hosted)

    def _tell(self, hosted: HostedModel, taken: Taken = NOTHING) -> None:
        """Send each front end its events, and all of them the figures of a step or of falling idle."""
        scheduler, step, is_short = hosted.scheduler, taken.step, taken.shortage is not None
        events = scheduler.take_events()
        receivers = set(events)
        if step.chunks or is_short or (hosted.shown_busy and not scheduler.has_work):
            figures = Figures(
                model=hosted.load.model,
                queued=scheduler.queued,
                running=scheduler.running,
                slots=hosted.runner.facts.slots,
                batch_rows=len(step.chunks),
                prefill_tokens=step.prefill_tokens,
                cached_tokens=step.cached_tokens,
                step_seconds=taken.seconds,
                out_of_memory=is_short,
                drafted_tokens=sum(outcome.drafted for outcome in taken.drafting),
                accepted_tokens=sum(len(outcome.drawn) - 1 for outcome in taken.drafting),
            )
            hosted.shown_busy = scheduler.has_work
            receivers |= self._front_ends
            for front_end in receivers:
                events.setdefault(front_end, []).append(figures)
        for front_end in receivers:
            self._send(front_end, events[front_end])

    def _send(self, front_end: str, events: list[Event]) -> None:
        try:
            self._port.send(front_end, self._encoder.encode(StepEvents(events)))
        except FrontEndGone:
            log.warning("front_end_gone", front_end=front_end)
            self._front_ends.discard(front_end)
            for hosted in self._models.values():
                hosted.scheduler.forget(front_end)
