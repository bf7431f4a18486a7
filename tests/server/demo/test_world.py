from __future__ import annotations

import hashlib
import stat
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import pytest
import yaml
from issuer import NOW, FakeClock, FakeKeys

from sluicegate.auth import (
    AccessRequest,
    Denied,
    Grant,
    Peer,
    Policy,
    Principal,
    Reason,
    TokenVerifier,
    TrustedIssuer,
    load_policy,
    read_signing_key,
)
from sluicegate.server.demo.errors import DirectoryUnusable, ModelsMissing
from sluicegate.server.demo.world import (
    AGREEMENT,
    AUDIENCE,
    CALLERS,
    INSIDER,
    ISSUER,
    MODELS,
    PARTNER,
    PURPOSE,
    VISITOR,
    Caller,
    World,
    claimed,
    write_world,
)
from sluicegate.server.settings_file import load_settings

LOOPBACK = Peer(ip_address("127.0.0.1"))
ALLOWED = None


def principal(world: World, caller: Caller) -> Principal:
    """Who the caller's token shows it to be, by the rules of the server."""
    keys = FakeKeys(read_signing_key(world.key))
    trusted = TrustedIssuer(ISSUER, AUDIENCE, frozenset({"ES256"}), keys)
    verifier = TokenVerifier([trusted], clock=FakeClock(), max_lifetime_seconds=3_600)
    return verifier.verify(world.token(caller).read_text().strip(), LOOPBACK)


def policy_in(world: World, stage: str) -> Policy:
    plan = world.release.read_text()
    world.release.write_text(plan.replace("\nactive: s2\n", f"\nactive: {stage}\n"))
    return load_policy(world.policy, None)


@pytest.mark.parametrize(
    ("stage", "caller", "model", "purpose", "refusal"),
    [
        ("s2", VISITOR, "demo-xs", None, ALLOWED),
        ("s2", VISITOR, "demo-s", None, ALLOWED),
        ("s2", VISITOR, "demo-m", None, Reason.MODEL_NOT_RELEASED),
        ("s2", VISITOR, "demo-l", None, Reason.MODEL_NOT_RELEASED),
        ("s2", PARTNER, "demo-s", None, ALLOWED),
        ("s2", PARTNER, "demo-m", PURPOSE, ALLOWED),
        ("s2", PARTNER, "demo-m", None, Reason.PURPOSE_NOT_PERMITTED),
        ("s2", PARTNER, "demo-l", PURPOSE, Reason.MODEL_NOT_RELEASED),
        ("s2", INSIDER, "demo-l", None, ALLOWED),
        ("s3", VISITOR, "demo-m", None, ALLOWED),
        ("s3", VISITOR, "demo-l", None, Reason.MODEL_NOT_RELEASED),
        ("s3", PARTNER, "demo-l", PURPOSE, ALLOWED),
        ("s1", VISITOR, "demo-s", None, Reason.MODEL_NOT_RELEASED),
        ("s4", VISITOR, "demo-l", None, ALLOWED),
    ],
)
def test_stage_and_agreement_decide_as_the_tour_tells(
    world: World, *, stage: str, caller: Caller, model: str, purpose: str | None, refusal: Reason | None
) -> None:
    policy = policy_in(world, stage)
    request = AccessRequest(action="generate", model=model, purpose=purpose)

    outcome = policy.decide(principal(world, caller), request, LOOPBACK, NOW)

    assert policy.stage.id == stage
    assert (outcome.reason if isinstance(outcome, Denied) else ALLOWED) == refusal


@pytest.mark.parametrize(("caller", "count"), [(VISITOR, 2), (PARTNER, 3), (INSIDER, 4)])
def test_each_caller_knows_of_one_model_more(world: World, caller: Caller, count: int) -> None:
    policy = load_policy(world.policy, None)

    visible = policy.visible_models(principal(world, caller), NOW)

    assert visible == MODELS[:count]


def test_the_partner_may_score_under_its_agreement(world: World) -> None:
    request = AccessRequest(action="score", model="demo-m", purpose=PURPOSE, logprobs=True)

    outcome = load_policy(world.policy, None).decide(principal(world, PARTNER), request, LOOPBACK, NOW)

    assert isinstance(outcome, Grant)
    assert (outcome.agreement, outcome.partner) == (AGREEMENT, "example-lab")


def test_the_partner_is_served_from_this_machine_only(world: World) -> None:
    request = AccessRequest(action="generate", model="demo-m", purpose=PURPOSE)
    elsewhere = Peer(ip_address("192.0.2.7"))

    outcome = load_policy(world.policy, None).decide(principal(world, PARTNER), request, elsewhere, NOW)

    assert isinstance(outcome, Denied)
    assert outcome.reason == Reason.NETWORK_NOT_PERMITTED


def test_weights_are_pinned_and_sources_lead_to_the_models(world: World, models: Path) -> None:
    policy = load_policy(world.policy, None)

    pinned = {model: entry.weights_sha256 for model, entry in policy.models.items()}

    assert pinned == {model: str(index) * 64 for index, model in enumerate(MODELS)}
    assert [policy.weights_directory(model) for model in MODELS] == [models / model for model in MODELS]


def test_settings_load_and_host_every_model_of_the_plan(world: World) -> None:
    settings = load_settings(world.settings)

    assert tuple(settings.models) == MODELS
    assert settings.policy.directory == world.policy.resolve()
    assert (settings.listen, settings.metrics.listen) == ("127.0.0.1:0", "127.0.0.1:0")


def test_ports_that_were_asked_for_stand_in_the_settings(tmp_path: Path, models: Path) -> None:
    world = write_world(tmp_path, datetime.fromtimestamp(NOW, UTC), port=50_051, metrics_port=9_464, models=models)

    settings = load_settings(world.settings)

    assert (settings.listen, settings.metrics.listen) == ("127.0.0.1:50051", "127.0.0.1:9464")


def test_secrets_are_for_their_owner_only(world: World) -> None:
    keys = [world.key, world.directory / "audit.jwk", world.directory / "audit.secret"]

    modes = [stat.S_IMODE(path.stat().st_mode) for path in (*keys, *(world.token(caller) for caller in CALLERS))]

    assert set(modes) == {0o600}


def test_the_agreement_names_the_digest_of_the_text_beside_it(world: World) -> None:
    text = (world.policy / "agreements/example-lab.txt").read_bytes()

    agreement = yaml.safe_load((world.policy / "agreements/example-lab.yaml").read_text())

    assert agreement["legal"]["sha256"] == hashlib.sha256(text).hexdigest()


def test_a_second_world_replaces_the_first_and_leaves_other_files_alone(tmp_path: Path, models: Path) -> None:
    now = datetime.fromtimestamp(NOW, UTC)
    first = write_world(tmp_path, now, models=models)
    old_token = first.token(VISITOR).read_text()
    (first.policy / "agreements/own.yaml").write_text("id: mine")
    (tmp_path / "notes.txt").write_text("mine")

    second = write_world(tmp_path, now, models=models)

    assert second.token(VISITOR).read_text() != old_token
    assert not (second.policy / "agreements/own.yaml").exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("lost", ["SHA256SUMS", "demo-l/evaluation.json"])
def test_missing_models_are_told_before_anything_is_removed(tmp_path: Path, models: Path, lost: str) -> None:
    world = write_world(tmp_path, datetime.fromtimestamp(NOW, UTC), models=models)
    (models / lost).unlink()

    with pytest.raises(ModelsMissing, match="install Sluicegate again"):
        write_world(tmp_path, datetime.fromtimestamp(NOW, UTC), models=models)

    assert world.settings.exists()


def test_a_digest_that_is_missing_is_told_by_name(tmp_path: Path, models: Path) -> None:
    sums = models / "SHA256SUMS"
    sums.write_text("".join(sums.read_text().splitlines(keepends=True)[:3]))

    with pytest.raises(ModelsMissing, match="demo-l"):
        write_world(tmp_path, datetime.fromtimestamp(NOW, UTC), models=models)


def test_a_new_directory_is_its_owner_s_only(tmp_path: Path) -> None:
    with claimed(tmp_path / "new"):
        mode = stat.S_IMODE((tmp_path / "new").stat().st_mode)

    assert mode == 0o700


def test_a_directory_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")

    with pytest.raises(DirectoryUnusable, match="not a demo's"), claimed(tmp_path):
        pass

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_two_demos_do_not_share_a_directory(tmp_path: Path) -> None:
    with claimed(tmp_path), pytest.raises(DirectoryUnusable, match="a demo runs in"), claimed(tmp_path):
        pass


def test_a_directory_can_be_claimed_again_when_its_demo_is_over(tmp_path: Path) -> None:
    with claimed(tmp_path):
        (tmp_path / "sluicegate.yaml").write_text("")

    with claimed(tmp_path):
        assert (tmp_path / "sluicegate.yaml").exists()
