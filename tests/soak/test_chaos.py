"""Three replicas, Redis, Envoy and Prometheus, all real, under load and random faults: every guarantee is kept.

Ten minutes, or as many as SOAK_MINUTES says. SOAK_SEED repeats the draws of a run, though not its timing.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from chaos_callers import HANGS, LEFT, Call, Caller, most_in_a_minute
from chaos_faults import Chaos, Fault, Kind
from chaos_site import PARTNER_MODEL, PUBLIC_MODEL, Partner, Site, site
from chaos_withdrawals import Doors
from fleet import supervised
from real_server import until

from sluicegate.auth import read_signing_key
from sluicegate.client import CallError, Client
from sluicegate.server.audit import Closing, Decision, Opening, Verification
from sluicegate.server.audit.problems import ProblemKind

Show = Callable[[str], None]

MINUTES = float(os.environ.get("SOAK_MINUTES", "10"))
SEED = int(os.environ.get("SOAK_SEED", str(random.SystemRandom().randrange(1_000_000))))

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(600 + 60 * MINUTES),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a network namespace"),
]

BY_MINUTE, BY_DAY, ROOMY = "by-minute", "by-day", "roomy"
MINUTE_TOKENS, DAY_TOKENS = 4_000, int(8_000 * MINUTES)
PARTNERS = (
    Partner(BY_MINUTE, {"output_tokens_per_minute": MINUTE_TOKENS, "concurrent_streams": 6}),
    Partner(BY_DAY, {"output_tokens_per_day": DAY_TOKENS, "concurrent_streams": 6}),
    Partner(ROOMY, {"output_tokens_per_day": 1_000_000_000}),
)
PUBLIC = "public"
AT_ONCE = 2
"""Callers of each partner by each way."""
IN_TURN, BY_ENVOY = "client takes turns", "through Envoy"
PROGRESS_SECONDS = 10.0
SETTLING_SECONDS = 5.0
"""How long tokens may be on their way at most."""
SLACK_SECONDS = 2.0
OWN_ENDS = {"OK", LEFT, "TOKEN_RATE_LIMIT", "DAILY_TOKEN_QUOTA", "CONCURRENCY_LIMIT"}
"""Ends that need no fault."""
NO_ANSWER = "STATE_UNAVAILABLE"
"""How a start may be refused for a Redis that gave no answer in half a second, as on a machine that is too busy."""
NO_ENDS = {HANGS, "INTERNAL"}
"""Ends that nothing excuses: none, and a fault of the server's."""
STORE_IS_AWAY = (Kind.REDIS_KILLED, Kind.ONE_CUT_OFF, Kind.ALL_CUT_OFF)


@pytest.fixture
def under_chaos(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path / "site", PARTNERS) as found:
        yield found


async def test_every_guarantee_holds_under_chaos(under_chaos: Site, show: Show) -> None:
    show(f"SOAK_SEED={SEED} SOAK_MINUTES={MINUTES:g}")
    calls, used = list[Call](), Counter[str]()
    doors = Doors(under_chaos, random.Random(f"{SEED} doors"))
    chaos = Chaos(under_chaos, random.Random(f"{SEED} faults"), f"{ROOMY}-app", doors.close_one)
    end = time.monotonic() + 60 * MINUTES
    async with AsyncExitStack() as clients, supervised(under_chaos.replicas), asyncio.TaskGroup() as group:
        beside = [
            *(
                caller.call_for_ever(random.Random(f"{SEED} {number}"), calls)
                for number, caller in enumerate(await callers(under_chaos, clients))
            ),
            *(probe.ask_for_ever() for probe in chaos.probes.values()),
            doors.try_for_ever(),
            watch_quotas(under_chaos, used),
            tell_progress(show, calls, chaos.faults),
        ]
        tasks = [group.create_task(each) for each in beside]
        await asyncio.gather(chaos.befall_replicas(end), chaos.befall_redis(end))
        for task in tasks:
            task.cancel()

    await assert_doors_stayed_closed(under_chaos, doors)
    await until("all are scraped", lambda: {each["health"] for each in under_chaos.prometheus.targets()} == {"up"})
    show(table(calls, chaos.faults, doors, under_chaos))
    for each in under_chaos.replicas:
        await asyncio.to_thread(each.server.end)
    served_by = assert_audit_logs_have_all_that_was_sent(under_chaos, calls)
    assert [call for call in calls if call.end in NO_ENDS] == []
    assert_no_quota_was_exceeded(calls, used)
    assert_streams_ended_early_only_where_something_befell(calls, chaos.faults, served_by)
    assert_no_partner_was_served_without_the_store(chaos)
    assert {fault.kind for fault in chaos.faults} == set(Kind)
    assert [life.log_file for each in under_chaos.replicas for life in each.lives if "Traceback" in life.log] == []


async def callers(found: Site, clients: AsyncExitStack) -> list[Caller]:
    """Half of them take turns among the replicas, half come through Envoy."""
    ways = {IN_TURN: found.in_turn, BY_ENVOY: found.envoy.address}
    made = []
    for way, target in ways.items():
        for name, client, model, count in (
            *((each.name, each.client, PARTNER_MODEL, AT_ONCE) for each in PARTNERS),
            (PUBLIC, "app", PUBLIC_MODEL, 1),
        ):
            opened = await clients.enter_async_context(Client(target, token=found.tokens(client)))
            made += [Caller(name, way, opened, model)] * count
    return made


async def watch_quotas(found: Site, used: Counter[str]) -> None:
    """Keep the most that the ledger has said of each quota, at any replica."""
    while True:
        for replica in found.replicas:
            for partner in PARTNERS:
                token = found.token(partner.client)
                try:
                    async with Client(replica.address, token=token, retry=False, timeout=10) as client:
                        quotas = await client.quotas(PARTNER_MODEL)
                except CallError:
                    continue
                for each in quotas:
                    name = f"{partner.name}: {each.quota}"
                    used[name] = max(used[name], each.used)
        await asyncio.sleep(1)


async def tell_progress(show: Show, calls: Sequence[Call], faults: Sequence[Fault]) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(PROGRESS_SECONDS)
        ends = Counter(call.end for call in calls)
        seconds = time.monotonic() - began
        under_way = ", ".join(fault.kind for fault in faults if math.isinf(fault.ended)) or "nothing"
        show(f"{seconds:4.0f} s: {ends['OK']} OK of {len(calls)} calls, {len(faults)} faults; now {under_way}")


async def assert_doors_stayed_closed(found: Site, doors: Doors) -> None:
    """Whoever was closed out came through nowhere, then and now; who was not comes through."""
    assert doors.passed == []
    assert doors.closed
    for replica in found.replicas:
        assert {door.id for door in doors.closed} <= await doors.listed(replica)
        assert await doors.answer("guest-of-nobody", replica) is None
        for door in doors.closed:
            assert await doors.answer(door.client, replica) == "CALLER_WITHDRAWN"


def assert_audit_logs_have_all_that_was_sent(found: Site, calls: Sequence[Call]) -> Mapping[str, str]:
    """The logs verify, and no token came but of a call that they have an opening of. Gives who served which call."""
    key = read_signing_key(found.deployment.directory / "audit.jwk").public_jwk()
    logs = Verification([each.audit for each in found.replicas], public_keys=[str(key["x"])])
    reserved, emitted, served_by = dict[str, int](), dict[str, int](), dict[str, str]()
    for report, record in logs.records():
        match record.entry:
            case Opening(decision=Decision.ALLOWED) as opening:
                reserved[opening.call] = opening.reserved_tokens
                served_by[opening.call] = report.replica or ""
            case Closing() as closing:
                emitted[closing.call] = closing.emitted_tokens
            case _:
                pass
    assert [each for each in logs.problems() if each.kind is not ProblemKind.CLOCK_WENT_BACK] == []
    begun = [call for call in calls if call.request_id is not None]
    assert [call for call in begun if call.request_id not in reserved] == []
    assert [call for call in begun if call.tokens > reserved[call.request_id or ""]] == []
    assert [call for call in begun if call.tokens > emitted.get(call.request_id or "", call.tokens)] == []
    return served_by


def assert_no_quota_was_exceeded(calls: Sequence[Call], used: Mapping[str, int]) -> None:
    """Neither by the ledger at any time, nor by what came in any minute and in all. Both limits were reached."""
    for partner in PARTNERS:
        for quota, limit in partner.quotas.items():
            assert used[f"{partner.name}: {quota}"] <= limit
    by_minute, by_day = ([call for call in calls if call.caller == name] for name in (BY_MINUTE, BY_DAY))
    assert most_in_a_minute(by_minute, SETTLING_SECONDS) <= MINUTE_TOKENS
    assert sum(call.tokens for call in by_day) <= DAY_TOKENS
    assert "TOKEN_RATE_LIMIT" in {call.end for call in by_minute}
    assert "DAILY_TOKEN_QUOTA" in {call.end for call in by_day}


def assert_streams_ended_early_only_where_something_befell(
    calls: Sequence[Call], faults: Sequence[Fault], served_by: Mapping[str, str]
) -> None:
    """A stream that broke off was on a replica that a fault hit then; a call that no replica took, in time of one."""
    disturbed = []
    for call in calls:
        replicas = {served_by[call.request_id]} if call.request_id is not None else set(served_by.values())
        befell = [
            fault
            for fault in faults
            if fault.hits & replicas
            and fault.began - SLACK_SECONDS <= call.ended
            and call.began <= fault.ended + SLACK_SECONDS
        ]
        excused = OWN_ENDS if call.request_id is not None else OWN_ENDS | {NO_ANSWER}
        if call.end and call.end not in excused and not befell:
            disturbed.append(call)
    assert disturbed == []


def assert_no_partner_was_served_without_the_store(chaos: Chaos) -> None:
    """A replica that could not ask the ledger answered no partner, until it could again."""
    served = [
        (fault, name, answer)
        for fault in chaos.faults
        for name in fault.hits
        for answer in chaos.probes[name].answered
        if fault.kind in STORE_IS_AWAY and fault.began + SLACK_SECONDS < answer[0] and answer[1] < fault.mended
    ]
    assert served == []


def table(calls: Sequence[Call], faults: Sequence[Fault], doors: Doors, found: Site) -> str:
    """What befell, how long each replica needed to answer again, and how the calls ended."""
    lines = ["faults; seconds until a replica answers a partner again: least, median, most, others' faults included"]
    for kind in Kind:
        of_it = [fault for fault in faults if fault.kind is kind]
        seconds = sorted(at - fault.mended for fault in of_it for at in fault.recovered.values())
        shown = (seconds[0], statistics.median(seconds), seconds[-1]) if seconds else ()
        lines.append(f"  {kind:<34} {len(of_it):3} " + " ".join(f"{each:6.1f}" for each in shown))
    for way in (IN_TURN, BY_ENVOY):
        ends = Counter(call.end for call in calls if call.way == way and call.end)
        lines.append(f"{way}: {ends.total()} calls, {sum(call.tokens for call in calls if call.way == way)} tokens")
        lines += [f"  {end:<34} {count:6}" for end, count in ends.most_common()]
    lives = [len(each.lives) for each in found.replicas]
    alerts = ", ".join(sorted(found.prometheus.firing())) or "none"
    lines.append(f"{len(doors.closed)} doors closed; lives of the replicas: {lives}; alerts that fire: {alerts}")
    return "\n".join(lines)
