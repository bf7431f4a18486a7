"""Files that change under a running server: the policy and the key set."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from deployment import LAB_APP, Deployment
from real_server import RealServer, real_server, until

from sluicegate.auth import create_signing_key
from sluicegate.client import AccessDenied, AuthenticationFailed, Client, GenerationConfig, Model

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

BRIEF = GenerationConfig(max_output_tokens=3)
LONGEST_WAIT = 60.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RealServer]:
    with real_server(Deployment(tmp_path / "files")) as running:
        yield running


def ids(models: tuple[Model, ...]) -> set[str]:
    return {model.id for model in models}


async def reloads(server: RealServer, result: str, count: int) -> None:
    """Wait until so many attempts to load a changed policy have had this result."""

    def are_counted() -> bool:
        return server.metric("sluicegate_policy_reloads_total", result=result) == count

    await until(f"{count} policies are {result}", are_counted)


async def test_a_stage_opens_and_closes_models_while_the_server_runs(server: RealServer) -> None:
    async with Client(server.address, token=server.token()) as client, client.watch_models() as watch:
        assert ids(await anext(watch)) == {"demo-xs"}
        with pytest.raises(AccessDenied) as refused:
            await client.generate("demo-next", "It was", BRIEF)
        assert refused.value.reason == "MODEL_NOT_RELEASED"

        server.deployment.write_release(active="last")

        async with asyncio.timeout(LONGEST_WAIT):
            assert ids(await anext(watch)) == {"demo-xs", "demo-s", "demo-next"}
        generation = await client.generate("demo-next", "It was", BRIEF)
        assert generation.started.stage == "last"

        server.deployment.write_release(active="first")

        async with asyncio.timeout(LONGEST_WAIT):
            assert ids(await anext(watch)) == {"demo-xs"}
        with pytest.raises(AccessDenied):
            await client.generate("demo-next", "It was", BRIEF)
        assert server.metric("sluicegate_policy_reloads_total", result="loaded") == 2


async def test_a_broken_policy_keeps_the_revision_in_force(server: RealServer) -> None:
    async with Client(server.address, token=server.token()) as client:
        before = await client.whoami()

        server.deployment.release_file.write_text("active: last\nstages: [")

        await reloads(server, "refused", 1)
        (event,) = server.events("policy_refused")
        assert "release.yaml" in event["problems"][0]
        assert (await client.whoami()).policy_revision == before.policy_revision
        assert (await client.generate("demo-xs", "It was", BRIEF)).started.stage == "first"
        assert server.metric("sluicegate_policy_info", stage="first") == 1
        assert server.metric("sluicegate_policy_reloads_total", result="loaded") == 0
        assert server.metric("sluicegate_policy_refused") == 1

        server.deployment.write_release(active="last")

        await reloads(server, "loaded", 1)
        assert server.metric("sluicegate_policy_refused") == 0
        assert (await client.generate("demo-next", "It was", BRIEF)).started.stage == "last"


async def test_a_suspended_agreement_closes_its_models_to_the_partner(server: RealServer) -> None:
    async with Client(server.address, token=server.token(LAB_APP)) as client:
        allowed = await client.generate("demo-s", "It was", BRIEF)

        server.deployment.write_agreement(status="suspended")

        await reloads(server, "loaded", 1)
        with pytest.raises(AccessDenied) as refused:
            await client.generate("demo-s", "It was", BRIEF)
    assert allowed.started.agreement == "agr-example-lab"
    assert refused.value.reason == "AGREEMENT_NOT_ACTIVE"


async def test_keys_of_a_file_are_rotated_without_a_restart(server: RealServer) -> None:
    files = server.deployment
    new = create_signing_key(key_id="second")
    async with (
        Client(server.address, token=files.token()) as by_old,
        Client(server.address, token=files.token(key=new)) as by_new,
    ):
        assert await is_believed(by_old)
        assert await is_refused(by_new)

        files.publish_keys(files.key, new)
        await until("the new key is known", lambda: is_believed(by_new))
        assert await is_believed(by_old)

        files.key_set_file.write_text("half a fi")
        await until("the failure is told", lambda: server.events("keys_not_refreshed"))
        assert await is_believed(by_old)
        assert await is_believed(by_new)

        files.publish_keys(new)
        await until("the old key is forgotten", lambda: is_refused(by_old))
        assert await is_believed(by_new)


async def is_believed(client: Client) -> bool:
    try:
        await client.whoami()
    except AuthenticationFailed:
        return False
    return True


async def is_refused(client: Client) -> bool:
    return not await is_believed(client)
