"""The log as the server uses it: durable openings, kept closings, a disk that fails."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from audit_logs import IDENTITY, KEY, FakeClock, closing, entries, files, kinds, opening, write_log

from sluicegate.auth import Reason
from sluicegate.server.audit import (
    AuditLogInUse,
    AuditUnavailable,
    Cause,
    Decision,
    Head,
    Hooks,
    Limits,
    Withdrawn,
    open_audit_log,
)
from sluicegate.server.audit import log as audit_log
from sluicegate.server.audit.entries import Checkpoint, Closing, Denials, Interrupted, Opening, Outage

REST = Limits(checkpoint_seconds=60, patience_seconds=30, retry_seconds=10)


class Watch:
    """Hooks that remember."""

    def __init__(self) -> None:
        self.causes: list[Cause] = []
        self.heads: list[Head] = []
        self.signed = asyncio.Event()
        self.failed = asyncio.Event()
        self.hooks = Hooks(on_failure=self._fail, anchor=self._anchor)

    def _fail(self, cause: Cause) -> None:
        self.causes.append(cause)
        self.failed.set()

    def _anchor(self, head: Head) -> None:
        self.heads.append(head)
        self.signed.set()


@contextmanager
def full_disk(directory: Path, room: int = 0) -> Iterator[None]:
    """The newest file of the log cannot grow by more than this (EFBIG, as a quota's end)."""
    size = files(directory)[-1].stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class HungDisk:
    """Holds every sync back until it is let go. Those fail that are let go while `is_broken`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_broken = False
        self._held = threading.Semaphore(0)
        self._may_go = threading.Semaphore(0)
        self._sync = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", self._hold)

    def wait_held(self) -> None:
        """Wait until the thread is in one more sync."""
        assert self._held.acquire(timeout=20)

    def let_go(self, syncs: int = 100) -> None:
        self._may_go.release(syncs)

    def _hold(self, descriptor: int) -> None:
        self._held.release()
        assert self._may_go.acquire(timeout=20)
        if self.is_broken:
            raise OSError(errno.EIO, "Input/output error")
        self._sync(descriptor)


async def test_an_opening_is_on_the_disk_when_the_call_goes_on(tmp_path: Path) -> None:
    directory = tmp_path / "log"

    async with open_audit_log(directory, IDENTITY, KEY) as log:
        await log.open_call(opening("call-1"))
        seen = entries(directory)

    assert opening("call-1") in seen


async def test_a_closing_is_on_the_disk_when_the_log_is_closed(tmp_path: Path) -> None:
    directory = tmp_path / "log"

    async with open_audit_log(directory, IDENTITY, KEY) as log:
        await log.open_call(opening("call-1"))
        log.close_call(closing("call-1"))

    written = entries(directory)
    assert written.index(opening("call-1")) < written.index(closing("call-1"))
    assert isinstance(written[-1], Checkpoint)
    assert kinds(directory) == []


async def test_openings_that_come_together_share_a_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "log"
    async with open_audit_log(directory, IDENTITY, KEY, limits=REST) as log:
        disk = HungDisk(monkeypatch)
        first = asyncio.create_task(log.open_call(opening("call-first")))
        await asyncio.to_thread(disk.wait_held)
        rest = [asyncio.create_task(log.open_call(opening(f"call-{n}"))) for n in range(50)]
        await asyncio.sleep(0)
        disk.let_go(2)
        await asyncio.gather(first, *rest)
        disk.let_go()

    assert len([entry for entry in entries(directory) if isinstance(entry, Opening)]) == 51


async def test_what_is_left_open_is_interrupted_at_the_next_start(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    async with open_audit_log(directory, IDENTITY, KEY) as log:
        await log.open_call(opening("call-1"))

    async with open_audit_log(directory, IDENTITY, KEY):
        pass

    assert [entry for entry in entries(directory) if isinstance(entry, Interrupted)] == [Interrupted(call="call-1")]


async def test_a_denied_call_has_an_opening_alone(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    denied = opening("call-1", decision=Decision.DENIED, reason=Reason.SCOPE_MISSING, code="PERMISSION_DENIED")

    async with open_audit_log(directory, IDENTITY, KEY) as log:
        await log.open_call(denied)
    async with open_audit_log(directory, IDENTITY, KEY):
        pass

    assert [entry for entry in entries(directory) if isinstance(entry, Opening | Interrupted)] == [denied]


async def test_withdrawals_are_durable_too(tmp_path: Path) -> None:
    withdrawn = Withdrawn(id="w-1", justification="Misuse.", withdrawal="model", target="gpt2-774m", by=("a" * 32,))

    async with open_audit_log(tmp_path / "log", IDENTITY, KEY) as log:
        await log.record(withdrawn)
        seen = entries(tmp_path / "log")

    assert withdrawn in seen


async def test_an_entry_that_breaks_its_rules_harms_nobody_else(tmp_path: Path) -> None:
    async with open_audit_log(tmp_path / "log", IDENTITY, KEY) as log:
        with pytest.raises(ValueError, match="call"):
            await log.open_call(opening("two\nlines"))
        await log.open_call(opening("call-1"))
        with pytest.raises(ValueError, match="code"):
            log.close_call(closing("call-1", code="not a code"))
        log.close_call(closing("call-1"))

    assert kinds(tmp_path / "log") == []


async def test_a_million_strangers_are_a_line_a_minute(tmp_path: Path) -> None:
    directory, clock = tmp_path / "log", FakeClock()

    async with open_audit_log(directory, IDENTITY, KEY, clock=clock.clock) as log:
        for _ in range(3):
            for _ in range(1000):
                log.count_denial(Reason.TOKEN_MISSING)
                log.count_denial(Reason.TOKEN_MALFORMED)
            clock.advance(60)

    told = [entry for entry in entries(directory) if isinstance(entry, Denials)]
    assert len(told) == 3
    assert all(dict(each.counts) == {Reason.TOKEN_MISSING: 1000, Reason.TOKEN_MALFORMED: 1000} for each in told)
    assert kinds(directory) == []


# --- checkpoints and anchors


async def test_a_checkpoint_comes_with_the_first_entry_after_a_minute(tmp_path: Path) -> None:
    clock, watch = FakeClock(), Watch()

    async with open_audit_log(tmp_path / "log", IDENTITY, KEY, clock=clock.clock, hooks=watch.hooks) as log:
        clock.advance(59)
        await log.open_call(opening("call-1"))
        early = log.last_checkpoint_age
        clock.advance(1)
        await log.open_call(opening("call-2"))
        late = log.last_checkpoint_age

    assert (early, late) == (59.0, 0.0)
    assert len(watch.heads) == 3


async def test_a_checkpoint_comes_in_silence_too(tmp_path: Path) -> None:
    came = asyncio.Event()
    hooks = Hooks(anchor=lambda head: came.set() if head.entry > 1 else None)

    async with open_audit_log(tmp_path / "log", IDENTITY, KEY, limits=Limits(checkpoint_seconds=0.01), hooks=hooks):
        await came.wait()

    assert kinds(tmp_path / "log") == []


async def test_the_anchored_heads_are_in_the_log(tmp_path: Path) -> None:
    watch = Watch()
    async with open_audit_log(tmp_path / "log", IDENTITY, KEY, hooks=watch.hooks) as log:
        await log.open_call(opening("call-1"))
        log.close_call(closing("call-1"))

    assert kinds(tmp_path / "log", anchors=watch.heads) == []

    async with open_audit_log(tmp_path / "log", IDENTITY, KEY, hooks=watch.hooks, anchored=watch.heads[-1]):
        pass

    assert kinds(tmp_path / "log", anchors=watch.heads) == []


async def test_a_second_server_on_the_directory_does_not_start(tmp_path: Path) -> None:
    async with open_audit_log(tmp_path / "log", IDENTITY, KEY):
        with pytest.raises(AuditLogInUse):
            async with open_audit_log(tmp_path / "log", IDENTITY, KEY):
                pass


# --- a disk that fails


async def test_a_full_disk_refuses_calls_until_it_takes_entries_again(tmp_path: Path) -> None:
    directory, clock, watch = tmp_path / "log", FakeClock(), Watch()
    settings = {"limits": REST, "clock": clock.clock, "hooks": watch.hooks}

    async with open_audit_log(directory, IDENTITY, KEY, **settings) as log:  # type: ignore[arg-type]
        await log.open_call(opening("running"))
        with full_disk(directory, room=100):
            with pytest.raises(AuditUnavailable) as first:
                await log.open_call(opening("refused-1"))
            log.close_call(closing("running"))
            with pytest.raises(AuditUnavailable) as second:
                await log.open_call(opening("refused-2"))
            log.count_denial(Reason.TOKEN_MISSING)
        with pytest.raises(AuditUnavailable):
            await log.open_call(opening("refused-3"))
        clock.advance(10)
        watch.signed.clear()
        log.count_denial(Reason.TOKEN_MISSING)  # wakes the writer, whose clock is not the real one
        await watch.signed.wait()
        await log.open_call(opening("accepted"))

    assert (first.value.cause, first.value.reason) == (Cause.DISK_FULL, Reason.AUDIT_UNAVAILABLE)
    assert second.value.cause is Cause.DISK_FULL
    assert set(watch.causes) == {Cause.DISK_FULL}
    written = entries(directory)
    assert [entry.call for entry in written if isinstance(entry, Opening)] == ["running", "accepted"]
    assert closing("running") in written
    [outage] = [entry for entry in written if isinstance(entry, Outage)]
    assert (outage.cause, outage.openings_lost) == ("disk_full", 3)
    assert [dict(entry.counts) for entry in written if isinstance(entry, Denials)] == [{Reason.TOKEN_MISSING: 2}]
    assert kinds(directory, anchors=watch.heads) == []


async def test_a_closing_whose_write_failed_is_written_later(tmp_path: Path) -> None:
    directory, clock, watch = tmp_path / "log", FakeClock(), Watch()

    async with open_audit_log(directory, IDENTITY, KEY, limits=REST, hooks=watch.hooks, clock=clock.clock) as log:
        await log.open_call(opening("call-1"))
        with full_disk(directory):
            log.close_call(closing("call-1"))
            await watch.failed.wait()

    assert closing("call-1") in entries(directory)
    assert kinds(directory) == []


async def test_who_waits_behind_a_failing_write_is_refused_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, clock = tmp_path / "log", FakeClock()

    async with open_audit_log(directory, IDENTITY, KEY, limits=REST, clock=clock.clock) as log:
        disk = HungDisk(monkeypatch)
        disk.is_broken = True
        calls = [asyncio.create_task(log.open_call(opening("call-0")))]
        await asyncio.to_thread(disk.wait_held)
        calls += [asyncio.create_task(log.open_call(opening(f"call-{n}"))) for n in (1, 2)]
        await asyncio.sleep(0)
        disk.let_go(1)
        refused = await asyncio.gather(*calls, return_exceptions=True)
        disk.is_broken = False
        disk.let_go()

    assert [type(each) for each in refused] == [AuditUnavailable] * 3
    [outage] = [entry for entry in entries(directory) if isinstance(entry, Outage)]
    assert (outage.cause, outage.openings_lost) == ("io_error", 3)
    assert not [entry for entry in entries(directory) if isinstance(entry, Opening)]


async def test_who_is_refused_while_the_outage_ends_is_counted_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, clock, watch = tmp_path / "log", FakeClock(), Watch()

    async with open_audit_log(directory, IDENTITY, KEY, limits=REST, hooks=watch.hooks, clock=clock.clock) as log:
        with full_disk(directory), pytest.raises(AuditUnavailable):
            await log.open_call(opening("first"))
        disk = HungDisk(monkeypatch)
        clock.advance(10)
        log.count_denial(Reason.TOKEN_MISSING)  # wakes the writer
        await asyncio.to_thread(disk.wait_held)
        with pytest.raises(AuditUnavailable):
            await log.open_call(opening("second"))
        disk.let_go()

    assert [entry.openings_lost for entry in entries(directory) if isinstance(entry, Outage)] == [1, 1]


async def test_a_failing_disk_at_the_end_leaves_a_log_that_goes_on(tmp_path: Path) -> None:
    directory, watch = tmp_path / "log", Watch()
    async with open_audit_log(directory, IDENTITY, KEY, limits=REST, hooks=watch.hooks) as log:
        await log.open_call(opening("call-1"))
        with full_disk(directory):
            log.close_call(closing("call-1"))
            await log.close(10)

    write_log(directory, clock=FakeClock(2e9))

    assert watch.causes[-1] is Cause.DISK_FULL
    assert Interrupted(call="call-1") in entries(directory)
    assert kinds(directory) == []


async def test_a_disk_that_hangs_refuses_calls_and_later_closes_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, watch = tmp_path / "log", Watch()
    limits = Limits(patience_seconds=0.01)

    async with open_audit_log(directory, IDENTITY, KEY, limits=limits, hooks=watch.hooks) as log:
        disk = HungDisk(monkeypatch)
        with pytest.raises(AuditUnavailable) as refused:
            await log.open_call(opening("written late"))
        await asyncio.sleep(limits.patience_seconds)
        with pytest.raises(AuditUnavailable):
            await log.open_call(opening("never written"))
        disk.let_go()

    assert refused.value.cause is Cause.TIMEOUT
    assert watch.causes == [Cause.TIMEOUT]  # the second was refused at once
    assert kinds(directory) == []
    calls = [entry.call for entry in entries(directory) if isinstance(entry, Opening | Closing)]
    assert calls == ["written late", "written late"]


async def test_a_call_that_is_cancelled_while_it_waits_is_closed_by_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "log"

    async with open_audit_log(directory, IDENTITY, KEY, limits=REST) as log:
        disk = HungDisk(monkeypatch)
        call = asyncio.create_task(log.open_call(opening("cancelled")))
        await asyncio.to_thread(disk.wait_held)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        disk.let_go()
        await log.open_call(opening("next"))
        log.close_call(closing("next"))

    ended = [entry for entry in entries(directory) if isinstance(entry, Closing)]
    assert {(entry.call, entry.code, entry.emitted_tokens) for entry in ended} == {
        ("cancelled", "CANCELLED", 0),
        ("next", "OK", 12),
    }


async def test_a_call_that_is_cancelled_as_it_is_told_is_closed_by_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "log"

    async with open_audit_log(directory, IDENTITY, KEY, limits=REST) as log:
        disk = HungDisk(monkeypatch)
        call = asyncio.create_task(log.open_call(opening("cancelled")))
        await asyncio.to_thread(disk.wait_held)
        other = asyncio.create_task(log.open_call(opening("other")))
        await asyncio.sleep(0)
        disk.let_go(1)
        disk.wait_held()  # blocks the loop: the call has been told, and does not know yet
        asyncio.get_running_loop().call_soon(call.cancel)
        with pytest.raises(asyncio.CancelledError):
            await call
        disk.let_go()
        await other
        log.close_call(closing("other"))

    ended = {(entry.call, entry.code) for entry in entries(directory) if isinstance(entry, Closing)}
    assert ended == {("cancelled", "CANCELLED"), ("other", "OK")}


async def test_a_call_that_is_cancelled_as_the_log_closes_is_closed_by_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "log"

    async with open_audit_log(directory, IDENTITY, KEY, limits=REST) as log:
        disk = HungDisk(monkeypatch)
        call = asyncio.create_task(log.open_call(opening("cancelled")))
        await asyncio.to_thread(disk.wait_held)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        asyncio.get_running_loop().call_soon(disk.let_go)

    assert [entry.code for entry in entries(directory) if isinstance(entry, Closing)] == ["CANCELLED"]


async def test_no_more_calls_wait_than_the_queue_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch()
    limits = Limits(patience_seconds=30, queue_entries=2)

    async with open_audit_log(tmp_path / "log", IDENTITY, KEY, limits=limits, hooks=watch.hooks) as log:
        disk = HungDisk(monkeypatch)
        held = asyncio.create_task(log.open_call(opening("held")))
        await asyncio.to_thread(disk.wait_held)
        queued = [asyncio.create_task(log.open_call(opening(f"queued-{n}"))) for n in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(AuditUnavailable) as refused:
            await log.open_call(opening("too many"))
        disk.let_go()
        await asyncio.gather(held, *queued)

    assert refused.value.cause is Cause.QUEUE_FULL
    assert watch.causes == [Cause.QUEUE_FULL]


async def test_no_more_calls_are_open_than_a_header_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "MAX_OPEN_CALLS", 1)

    async with open_audit_log(tmp_path / "log", IDENTITY, KEY) as log:
        await log.open_call(opening("call-1"))
        with pytest.raises(AuditUnavailable) as refused:
            await log.open_call(opening("call-2"))
        log.close_call(closing("call-1"))
        await log.open_call(opening("call-3"))

    assert refused.value.cause is Cause.QUEUE_FULL


async def test_calls_that_open_at_once_are_no_more_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "MAX_OPEN_CALLS", 3)

    async with open_audit_log(tmp_path / "log", IDENTITY, KEY) as log:
        calls = [log.open_call(opening(f"call-{number}")) for number in range(6)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        for number, outcome in enumerate(outcomes):
            if outcome is None:
                log.close_call(closing(f"call-{number}"))

    assert outcomes[:3] == [None] * 3
    assert [outcome.cause for outcome in outcomes[3:] if isinstance(outcome, AuditUnavailable)] == [
        Cause.QUEUE_FULL
    ] * 3


async def test_a_closed_log_takes_no_calls(tmp_path: Path) -> None:
    async with open_audit_log(tmp_path / "log", IDENTITY, KEY) as log:
        pass

    with pytest.raises(AuditUnavailable) as refused:
        await log.open_call(opening("late"))

    assert refused.value.cause is Cause.CLOSED
