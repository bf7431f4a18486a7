"""The audit log through the wire: what each call leaves in it, and what happens to calls where it cannot be written."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
from audit_logs import entries, files
from disks import FailingDisk, HungDisk
from harness import (
    AUDIT,
    LONG_SECONDS,
    METRICS,
    SMALL,
    Server,
    bearer,
    delete_state,
    demo_plan,
    open_agreement,
    refusal,
    serving,
    until,
)
from issuer import ISSUER, KEY, token

from sluicegate.auth import Audience, Reason
from sluicegate.server.audit import (
    Closing,
    Decision,
    Limits,
    Opening,
    PolicyChanged,
    Pseudonyms,
    WithdrawalsInForce,
    Withdrawn,
    read_secret,
)
from sluicegate.server.audit.entries import Denials, Entry, Outage
from sluicegate.v1.access_service_pb2 import QUOTA_OUTPUT_TOKENS_PER_DAY, ListQuotasRequest
from sluicegate.v1.generation_pb2 import GenerationConfig
from sluicegate.v1.generation_service_pb2 import (
    GenerateRequest,
    ScoreRequest,
    StreamGenerateRequest,
    TokenizeRequest,
)
from sluicegate.v1.withdrawal_service_pb2 import (
    ClientTarget,
    CreateWithdrawalRequest,
    LiftWithdrawalRequest,
    ListWithdrawalsRequest,
    WithdrawalTarget,
)
from sluicegate.v1.withdrawal_service_pb2_grpc import WithdrawalServiceStub

CALLER, PARTNER, INSIDER = bearer(), bearer(client_id="lab-app"), bearer(client_id="eval-team")
OPERATOR = bearer(sub="olga", client_id="operations", scope="release:withdraw")
PROMPT = "nobody-may-keep-this"

Kind = TypeVar("Kind", bound=Entry)


def log(server: Server) -> Path:
    return server.directory / AUDIT["directory"]


def of(directory: Path, kind: type[Kind]) -> list[Kind]:
    """The entries of one kind."""
    return [entry for entry in entries(directory) if isinstance(entry, kind)]


async def written(server: Server, kind: type[Kind], count: int = 1) -> list[Kind]:
    """The entries of one kind, once there are so many: ends are written without anybody waiting for them."""

    async def holds() -> bool:
        return len(of(log(server), kind)) >= count

    await until(holds)
    return of(log(server), kind)


def config(tokens: int = 100, **more: Any) -> GenerationConfig:
    return GenerationConfig(max_output_tokens=tokens, **more)


def generate(server: Server, who: Any = CALLER, model: str = SMALL, tokens: int = 3, **more: Any) -> Any:
    request = GenerateRequest(model=model, text=PROMPT, config=config(tokens, **more))
    return server.generation.Generate(request, metadata=who, timeout=LONG_SECONDS)


async def begun(server: Server, who: Any = CALLER, tokens: int = 2) -> Any:
    """A stream that has given so many tokens and waits for its engine."""
    server.engine.pause_after(tokens)
    request = StreamGenerateRequest(model=SMALL, text=PROMPT, config=config())
    call: Any = server.generation.StreamGenerate(request, metadata=who, timeout=LONG_SECONDS)
    seen = 0
    while seen < tokens:
        seen = (await call.read()).usage.output_tokens
    return call


# --- what calls leave


async def test_a_served_call_has_an_opening_and_an_end(tmp_path: Path) -> None:
    agreement = open_agreement(
        networks=["198.51.100.0/24", "127.0.0.0/8"], purposes=["bias"], token={"max_lifetime": "1h"}
    )
    async with serving(tmp_path, demo_plan(), [agreement]) as server:
        server.engine.say("The end.")
        request = GenerateRequest(model=SMALL, text=PROMPT, config=config(50), purpose="bias")
        partner = bearer(client_id="lab-app", sub="ada", jti="jti-7")

        answer = await server.generation.Generate(request, metadata=partner, timeout=LONG_SECONDS)

        [ending] = await written(server, Closing)
        names = Pseudonyms(read_secret(tmp_path / AUDIT["secret"]))
        [opening] = of(log(server), Opening)
        assert opening.call == ending.call == answer.started.request_id
        assert (opening.decision, opening.reason, opening.code) == (Decision.ALLOWED, None, "OK")
        assert (opening.audience, opening.partner, opening.stage) == (Audience.PARTNER, "example-lab", "s2")
        assert opening.client == names.of("client", ISSUER, "lab-app")
        assert opening.subject == names.of("subject", ISSUER, "ada")
        assert opening.jti_hash == names.of("token", ISSUER, "jti-7")
        assert (opening.kid, opening.action, opening.model) == (KEY.key_id, "generate", SMALL)
        assert (opening.purpose, opening.network, opening.token_terms_met) == ("bias", 1, ("max_lifetime",))
        assert opening.reserved_tokens == 50
        assert f"generate:{SMALL}" in opening.scopes
        assert (ending.code, ending.reason, ending.finish) == ("OK", None, "STOP")
        assert ending.emitted_tokens == answer.usage.output_tokens == 3
        assert ending.input_tokens == answer.usage.prompt_tokens


async def test_no_text_no_address_and_nobody_by_name_is_in_the_log(server: Server) -> None:
    who = bearer(sub="ada-the-subject", client_id="the-client", jti="the-token-id")
    await generate(server, who)
    await refusal(generate(server, who, model="a-model-that-is-not"))
    await refusal(generate(server, bearer("no-token-at-all")))
    request = GenerateRequest(model=SMALL, text=PROMPT, purpose="the-stated-purpose", client_request_id="their-own-id")
    await server.generation.Generate(request, metadata=who, timeout=LONG_SECONDS)

    await written(server, Closing, 2)
    text = b"".join(path.read_bytes() for path in files(log(server))).decode()
    for secret in (
        PROMPT,
        "ada-the-subject",
        "the-client",
        "the-token-id",
        "127.0.0.1",
        "a-model-that-is-not",
        "the-stated-purpose",
        "their-own-id",
        token(),
    ):
        assert secret not in text


async def test_each_candidate_counts(server: Server) -> None:
    server.engine.say("The end.")

    answer = await generate(server, tokens=50, candidate_count=3)

    [ending] = await written(server, Closing)
    assert of(log(server), Opening)[0].reserved_tokens == 150
    assert (ending.emitted_tokens, ending.finish) == (answer.usage.output_tokens, "STOP")


async def test_scores_and_tokens_of_a_text_are_calls_too(server: Server) -> None:
    await server.generation.Score(ScoreRequest(model=SMALL, text="a b"), metadata=CALLER, timeout=LONG_SECONDS)
    await server.generation.Tokenize(TokenizeRequest(model=SMALL, text="a"), metadata=CALLER, timeout=LONG_SECONDS)

    endings = await written(server, Closing, 2)
    assert [opening.action for opening in of(log(server), Opening)] == ["score", "tokenize"]
    assert [ending.emitted_tokens for ending in endings] == [0, 0]
    assert endings[0].input_tokens > 0


@dataclass(frozen=True, slots=True)
class Refused:
    """A call that is refused, and what its opening says."""

    who: Any
    reason: Reason
    model: str = SMALL
    more: dict[str, Any] = field(default_factory=dict)
    logged_model: str | None = SMALL
    partner: str = "public"


REFUSED = [
    Refused(bearer(scope="generate:gpt2-355m"), Reason.SCOPE_MISSING),
    Refused(bearer(scope="generate:gpt2-9"), Reason.MODEL_NOT_RELEASED, "gpt2-9", logged_model="other"),
    Refused(PARTNER, Reason.MODEL_NOT_READY, "gpt2-774m", logged_model="gpt2-774m", partner="example-lab"),
    Refused(INSIDER, Reason.CONTEXT_LENGTH_EXCEEDED, more={"tokens": 1_024}, partner="internal"),
    Refused(CALLER, Reason.REQUEST_INVALID, more={"temperature": -1.0}, logged_model=None),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.reason.value)
async def test_a_refused_call_has_an_opening_with_the_reason_and_no_end(tmp_path: Path, case: Refused) -> None:
    async with serving(tmp_path, demo_plan(), [open_agreement()]) as server:
        refused = await refusal(generate(server, case.who, case.model, **case.more))

    [opening] = of(tmp_path / AUDIT["directory"], Opening)
    assert (opening.call, opening.code) == (refused.request_id, refused.code.name)
    assert (opening.decision, opening.reason) == (Decision.DENIED, case.reason)
    assert (opening.model, opening.partner, opening.reserved_tokens) == (case.logged_model, case.partner, 0)
    assert of(tmp_path / AUDIT["directory"], Closing) == []


async def test_an_operators_missing_scope_is_on_record(server: Server) -> None:
    request = CreateWithdrawalRequest(target=WithdrawalTarget(model=SMALL), justification="a drill")
    service: Any = WithdrawalServiceStub(server.channel)

    await refusal(service.CreateWithdrawal(request, metadata=bearer(scope="generate:x"), timeout=LONG_SECONDS))

    [opening] = await written(server, Opening)
    assert (opening.reason, opening.action, opening.model) == (Reason.SCOPE_MISSING, "CreateWithdrawal", None)


async def test_calls_refused_before_their_caller_is_admitted_are_counted_and_no_more(tmp_path: Path) -> None:
    async with serving(tmp_path, limits={"denials_per_minute": 1}) as server:
        for _ in range(20):
            await refusal(generate(server, ()))
        await refusal(generate(server, bearer(scope="generate:x")))
        for _ in range(10):
            await refusal(generate(server, bearer(scope="generate:x")))

    openings, [denials] = of(tmp_path / AUDIT["directory"], Opening), of(tmp_path / AUDIT["directory"], Denials)
    assert [opening.reason for opening in openings] == [Reason.SCOPE_MISSING]
    assert denials.counts == {Reason.TOKEN_MISSING: 20, Reason.DENIAL_RATE_LIMIT: 10}


async def test_refusals_of_one_client_beyond_its_budget_are_counted_and_fill_no_disk(tmp_path: Path) -> None:
    plan = demo_plan()
    plan["public"]["quotas"] = {"requests_per_minute": 1}
    async with serving(tmp_path, plan, limits={"denials_per_minute": 5}) as server:
        await generate(server)
        reasons = {(await refusal(generate(server))).reason for _ in range(20)}
        await refusal(generate(server, bearer(client_id="another"), tokens=1_024))

    log_directory = tmp_path / AUDIT["directory"]
    told = [opening.reason for opening in of(log_directory, Opening) if opening.decision is Decision.DENIED]
    assert reasons == {"REQUEST_RATE_LIMIT"}
    assert told == [Reason.REQUEST_RATE_LIMIT] * 5 + [Reason.CONTEXT_LENGTH_EXCEEDED]
    assert [entry.counts for entry in of(log_directory, Denials)] == [{Reason.REQUEST_RATE_LIMIT: 15}]


async def test_the_longest_scope_that_a_token_may_have_is_on_record(server: Server) -> None:
    scope = f"generate:{SMALL} generate:{'x' * 400}"

    await generate(server, bearer(scope=scope))
    refused = await refusal(generate(server, bearer(scope=scope), model="gpt2-355m"))

    openings = await written(server, Opening, 2)
    assert refused.verdict == "PERMISSION_DENIED SCOPE_MISSING"
    assert [opening.scopes for opening in openings] == [tuple(sorted(scope.split()))] * 2


def claiming(*agreements: str, **claims: object) -> Any:
    """Metadata of a token that names these agreements."""
    details = [{"type": "model_partnership", "agreement": each} for each in agreements]
    return bearer(authorization_details=details, **claims)


async def test_an_agreement_that_is_not_on_file_is_not_written_as_its_caller_names_it(server: Server) -> None:
    refused = await refusal(generate(server, claiming("Not A Slug")))

    [opening] = await written(server, Opening)
    assert refused.reason == "AGREEMENT_UNKNOWN"
    assert (opening.agreement, opening.is_claimed_by_token, opening.partner) == ("other", True, "public")


async def test_a_call_under_one_of_two_agreements_says_which(tmp_path: Path) -> None:
    agreements = [
        open_agreement(id=f"agr-{name}", partner=f"lab-{name}", purposes=[f"study-{name}"], models=[model])
        for name, model in (("a", "gpt2-774m"), ("b", SMALL))
    ]
    async with serving(tmp_path, demo_plan(), agreements) as server:
        request = GenerateRequest(model=SMALL, text="a", config=config(1), purpose="study-b")
        for who in (PARTNER, claiming("agr-a", "agr-b", client_id="lab-app")):
            await server.generation.Generate(request, metadata=who, timeout=LONG_SECONDS)

    by_name, by_token = of(tmp_path / AUDIT["directory"], Opening)
    assert (by_name.agreement, by_name.purpose, by_name.is_claimed_by_token) == ("agr-b", "study-b", False)
    assert (by_token.agreement, by_token.purpose, by_token.is_claimed_by_token) == ("agr-b", "study-b", True)
    assert by_token.partner == "lab-b"


async def test_a_cancelled_stream_ends_with_what_it_had(server: Server) -> None:
    call = await begun(server, tokens=2)

    call.cancel()

    [ending] = await written(server, Closing)
    assert (ending.code, ending.reason, ending.finish, ending.emitted_tokens) == ("CANCELLED", None, None, 2)


async def test_a_stream_that_is_ended_from_outside_says_why(server: Server) -> None:
    call = await begun(server, tokens=2)
    server.engine.lose()

    await refusal(call)

    [ending] = await written(server, Closing)
    assert (ending.code, ending.reason, ending.finish) == ("UNAVAILABLE", Reason.ENGINE_LOST, None)


async def test_a_call_without_a_token_is_nobodys(tmp_path: Path) -> None:
    plan = demo_plan()
    plan["public"] |= {"anonymous": "serve", "anonymous_quotas": {"output_tokens_per_call": 8}}
    async with serving(tmp_path, plan) as server:
        await generate(server, ())

    [opening] = of(tmp_path / AUDIT["directory"], Opening)
    assert (opening.client, opening.subject, opening.jti_hash, opening.kid, opening.scopes) == (None,) * 4 + ((),)


async def test_log_ledger_and_metrics_tell_the_same_tokens(tmp_path: Path) -> None:
    plan = demo_plan()
    plan["public"]["quotas"] = {"output_tokens_per_day": 1_000, "output_tokens_per_call": 40}
    async with serving(tmp_path, plan, metrics=METRICS, models={SMALL: {"device": "cpu", "slots": 8}}) as server:
        server.engine.say("The end.")
        await asyncio.gather(*(generate(server, tokens=40, candidate_count=1 + n % 3) for n in range(12)))
        cancelled = await begun(server, tokens=2)
        cancelled.cancel()
        endings = await written(server, Closing, 13)
        server.engine.resume()

        quotas = await server.access.ListQuotas(ListQuotasRequest(model=SMALL), metadata=CALLER, timeout=LONG_SECONDS)
        sample = f'sluicegate_tokens_total{{direction="output",model="{SMALL}",partner="public"}}'
        counted = (await server.metrics())[sample]

    [booked] = [quota.used for quota in quotas.quotas if quota.quota == QUOTA_OUTPUT_TOKENS_PER_DAY]
    emitted = sum(ending.emitted_tokens for ending in endings)
    assert emitted == counted == booked > 0


# --- the policy and withdrawals


async def test_the_policy_in_force_and_each_change_of_it_are_on_record(server: Server) -> None:
    [first] = await written(server, PolicyChanged)

    server.write_policy(demo_plan(active="s3"))

    [_, second] = await written(server, PolicyChanged, 2)
    assert (first.previous_revision, first.stage, first.signatures_checked) == (None, "s2", False)
    assert (second.previous_stage, second.stage, second.previous_revision) == ("s2", "s3", first.revision)


async def test_withdrawals_and_liftings_are_on_record_with_operator_and_words(server: Server) -> None:
    service: Any = WithdrawalServiceStub(server.channel)
    asked = CreateWithdrawalRequest(target=WithdrawalTarget(model=SMALL), justification="Misuse. See ticket 7.")
    made = (await service.CreateWithdrawal(asked, metadata=OPERATOR, timeout=LONG_SECONDS)).withdrawal
    lifting = LiftWithdrawalRequest(id=made.id, justification="Mended.")

    await service.LiftWithdrawal(lifting, metadata=OPERATOR, timeout=LONG_SECONDS)

    closed, opened = await written(server, Withdrawn, 2)
    olga = Pseudonyms(read_secret(server.directory / AUDIT["secret"])).of("subject", ISSUER, "olga")
    assert (closed.id, closed.withdrawal, closed.target, closed.lifted) == (made.id, "model", SMALL, False)
    assert (closed.by, closed.justification) == ((olga,), "Misuse. See ticket 7.")
    assert (opened.id, opened.lifted, opened.justification) == (made.id, True, "Mended.")


# --- a disk that takes nothing


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FailingDisk:
    return FailingDisk(monkeypatch)


@pytest.mark.parametrize("who", [CALLER, PARTNER, INSIDER], ids=["public", "partner", "internal"])
async def test_without_a_log_nobody_is_served_and_nothing_is_charged(
    tmp_path: Path, disk: FailingDisk, who: Any
) -> None:
    plan = demo_plan()
    plan["public"]["quotas"] = {"output_tokens_per_day": 100}
    agreement = open_agreement(models=[SMALL], quotas={"output_tokens_per_day": 100})
    async with serving(tmp_path, plan, [agreement], metrics=METRICS) as server:
        disk.is_full = True

        refused = [await refusal(generate(server, who)) for _ in range(3)]

        asked = ListQuotasRequest(model=SMALL)
        quotas = await server.access.ListQuotas(asked, metadata=who, timeout=LONG_SECONDS)
        failures = (await server.metrics())['sluicegate_audit_failures_total{cause="disk_full"}']
        disk.is_full = False
    assert {each.verdict for each in refused} == {"UNAVAILABLE AUDIT_UNAVAILABLE"}
    assert {each.retry_after for each in refused} == {2.0}
    assert [quota.used for quota in quotas.quotas] == [0] * len(quotas.quotas)
    assert failures >= 1
    assert of(tmp_path / AUDIT["directory"], Opening) == []


async def test_a_policy_may_serve_the_public_without_a_log_and_nobody_else(tmp_path: Path, disk: FailingDisk) -> None:
    plan = demo_plan(on_audit_lost={"public": "serve"})
    async with serving(tmp_path, plan, [open_agreement(models=[SMALL])]) as server:
        disk.is_full = True

        answer = await generate(server, CALLER)
        others = [await refusal(generate(server, who)) for who in (PARTNER, INSIDER)]

        disk.is_full = False
    assert answer.usage.output_tokens == 3
    assert {each.verdict for each in others} == {"UNAVAILABLE AUDIT_UNAVAILABLE"}


async def test_it_serves_again_once_the_disk_takes_entries_and_says_what_is_missing(
    tmp_path: Path, disk: FailingDisk
) -> None:
    async with serving(tmp_path) as server:
        disk.is_full = True
        await refusal(generate(server))
        disk.is_full = False

        async def serves() -> bool:
            try:
                await generate(server)
            except grpc.aio.AioRpcError:
                return False
            return True

        await until(serves)

    outages = of(tmp_path / AUDIT["directory"], Outage)
    assert {outage.cause for outage in outages} == {"disk_full"}
    assert sum(outage.openings_lost for outage in outages) >= 1


async def test_a_refusal_is_told_whether_or_not_it_can_be_written(server: Server, disk: FailingDisk) -> None:
    disk.is_full = True

    refused = await refusal(generate(server, bearer(scope="generate:x")))

    disk.is_full = False
    assert refused.verdict == "PERMISSION_DENIED SCOPE_MISSING"


async def test_a_door_closes_without_a_log_and_its_entry_comes_later(server: Server, disk: FailingDisk) -> None:
    service: Any = WithdrawalServiceStub(server.channel)
    asked = CreateWithdrawalRequest(target=WithdrawalTarget(model=SMALL), justification="Misuse.")
    disk.is_full = True

    made = (await service.CreateWithdrawal(asked, metadata=OPERATOR, timeout=LONG_SECONDS)).withdrawal
    refused = await refusal(generate(server))
    lifting = LiftWithdrawalRequest(id=made.id, justification="Mended.")
    not_lifted = await refusal(service.LiftWithdrawal(lifting, metadata=OPERATOR, timeout=LONG_SECONDS))
    disk.is_full = False

    [entry] = await written(server, Withdrawn)
    assert refused.verdict == "PERMISSION_DENIED MODEL_WITHDRAWN"
    assert not_lifted.verdict == "UNAVAILABLE AUDIT_UNAVAILABLE"
    assert (entry.id, entry.lifted) == (made.id, False)


async def test_every_door_that_closes_is_on_record_though_its_operator_left(server: Server) -> None:
    service: Any = WithdrawalServiceStub(server.channel)
    for number in range(40):
        target = WithdrawalTarget(client=ClientTarget(issuer=ISSUER, client_id=f"client-{number}"))
        asked = CreateWithdrawalRequest(target=target, justification="Misuse.")
        call = service.CreateWithdrawal(asked, metadata=OPERATOR, timeout=LONG_SECONDS)
        await asyncio.sleep(number / 20_000)
        call.cancel()
    answer = await service.CreateWithdrawal(
        CreateWithdrawalRequest(target=WithdrawalTarget(model=SMALL), justification="Misuse."),
        metadata=OPERATOR,
        timeout=LONG_SECONDS,
    )
    closed = await service.ListWithdrawals(
        ListWithdrawalsRequest(page_size=100), metadata=OPERATOR, timeout=LONG_SECONDS
    )

    async def are_written() -> bool:
        return {entry.id for entry in closed.withdrawals} <= {entry.id for entry in of(log(server), Withdrawn)}

    await until(are_written)
    assert answer.withdrawal.id in {entry.id for entry in closed.withdrawals}


async def test_a_refusal_waits_for_no_disk(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = HungDisk(monkeypatch)
    disk.hang()

    refused = [await refusal(generate(server, bearer(scope="generate:x"))) for _ in range(3)]

    assert {each.reason for each in refused} == {"SCOPE_MISSING"}
    disk.let_go()
    assert len(await written(server, Opening, 3)) == 3


@pytest.mark.parametrize("is_behind_another", [False, True])
async def test_an_opening_that_comes_late_is_followed_by_the_end_that_the_call_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_behind_another: bool
) -> None:
    monkeypatch.setattr("sluicegate.server.audit_setup.Limits", partial(Limits, patience_seconds=0.05))
    async with serving(tmp_path, demo_plan(on_audit_lost={"public": "serve"})) as server:
        await written(server, WithdrawalsInForce)
        disk = HungDisk(monkeypatch)
        disk.hang()
        if is_behind_another:
            await refusal(generate(server, bearer(scope="generate:x")))
            await asyncio.to_thread(disk.is_asked.wait)

        answer = await generate(server, tokens=3)

        disk.let_go()
        [ending] = await written(server, Closing)
        assert (ending.call, ending.code) == (answer.started.request_id, "OK")
        assert (ending.emitted_tokens, ending.finish) == (3, "MAX_OUTPUT_TOKENS")


async def test_no_token_leaves_before_the_opening_is_on_the_disk(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = HungDisk(monkeypatch)
    disk.hang()
    request = StreamGenerateRequest(model=SMALL, text="a", config=config(3))

    call: Any = server.generation.StreamGenerate(request, metadata=CALLER, timeout=LONG_SECONDS)
    first = asyncio.ensure_future(call.read())
    await asyncio.to_thread(disk.is_asked.wait)
    fed = server.engine.runners[SMALL].steps
    was_done = first.done()
    disk.let_go()

    assert (fed, was_done) == ([], False)
    assert (await first).WhichOneof("event") == "started"


# --- restarts


def cut(directory: Path, lines: int) -> None:
    """Take the last lines of a log away."""
    last = files(directory)[-1]
    last.write_bytes(b"".join(last.read_bytes().splitlines(keepends=True)[:-lines]))


async def test_the_log_goes_on_after_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        async with serving(tmp_path) as server:
            await generate(server)

    assert len(of(tmp_path / AUDIT["directory"], Closing)) == 2
    assert len(files(tmp_path / AUDIT["directory"])) == 2


async def test_a_server_does_not_start_on_a_log_that_was_shortened(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await generate(server)
    cut(tmp_path / AUDIT["directory"], lines=2)

    with pytest.raises(Exception, match="it lacks"):
        async with serving(tmp_path):
            pass


async def test_a_replica_that_lost_its_whole_log_starts_under_another_name_only(tmp_path: Path) -> None:
    async with serving(tmp_path):
        pass
    (tmp_path / AUDIT["directory"]).rename(tmp_path / "kept")

    with pytest.raises(Exception, match="shortened or replaced"):
        async with serving(tmp_path):
            pass

    async with serving(tmp_path, audit={**AUDIT, "replica": "gate-0b"}) as server:
        await generate(server)


async def test_another_name_does_not_hide_that_a_log_was_shortened(tmp_path: Path) -> None:
    for name in ("pod-1", "pod-2"):
        async with serving(tmp_path, audit={**AUDIT, "replica": name}) as server:
            await generate(server)
    cut(tmp_path / AUDIT["directory"], lines=2)

    with pytest.raises(Exception, match="it lacks"):
        async with serving(tmp_path, audit={**AUDIT, "replica": "pod-3"}):
            pass


async def test_a_store_that_forgot_everything_does_not_go_unnoticed(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await generate(server)
    delete_state(tmp_path)

    with pytest.raises(Exception, match="knows nothing of this log"):
        async with serving(tmp_path):
            pass

    async with serving(tmp_path, state={"is_new": True}) as server:
        await generate(server)


async def test_a_log_that_is_deleted_under_the_server_refuses_calls_and_is_told(
    tmp_path: Path, logs: Sequence[dict[str, Any]]
) -> None:
    async with serving(tmp_path, audit={**AUDIT, "replica": "gate-0"}) as server:
        for path in files(log(server)):
            path.unlink()

        refused = await refusal(generate(server))

        assert refused.verdict == "UNAVAILABLE AUDIT_UNAVAILABLE"
        told = [entry["cause"] for entry in logs if entry["event"] == "audit_log_not_written"]
        assert told == ["io_error"]


async def test_a_server_without_a_log_serves_and_says_so(tmp_path: Path, logs: Sequence[dict[str, Any]]) -> None:
    async with serving(tmp_path, audit="off", metrics=METRICS) as server:
        answer = await generate(server)
        metrics = await server.metrics()

    assert answer.usage.output_tokens == 3
    assert metrics["sluicegate_audit_enabled"] == 0
    assert any(entry["event"] == "audit_off" for entry in logs)
