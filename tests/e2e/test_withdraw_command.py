"""An operator's drill by the command line alone, with signatures on: close, see, have it signed twice, open."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from deployment import DEMO, Deployment, Document
from real_server import COMMAND, RealServer, real_server, until
from signers import DEPLOYMENT, SIGNERS, trust_file

from sluicegate.auth import SigningKey, write_signing_key
from sluicegate.client import AccessDenied, AuthenticationFailed, Client, GenerationConfig

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

BRIEF, LONG = GenerationConfig(max_output_tokens=3), GenerationConfig(max_output_tokens=1_000, ignore_eos=True)
STREAMS = 24  # three times the slots of the model
SECONDS = 60


class SignedDeployment(Deployment):
    """One public model, with a trust root; its plan has nothing that must be signed."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "files", {"demo-xs": DEMO["demo-xs"]})
        trust = yaml.safe_load(trust_file(directory).read_text())
        self.write_settings(policy={"directory": "policy", "signatures": trust, "reload_seconds": 0.2})

    def release(self, active: str = "first") -> Document:
        return {**super().release(active), "internal": {"clients": []}}


class Operator:
    """Runs `sluicegate` as an operator's shell would."""

    def __init__(self, server: RealServer, directory: Path) -> None:
        self._directory = directory
        token = directory / "operator.token"
        token.write_text(server.token("operations", scopes=("release:withdraw",)))
        self._environment = {
            **os.environ,
            "SLUICEGATE_TARGET": server.address,
            "SLUICEGATE_TOKEN_FILE": str(token),
        }

    async def run(self, *arguments: str | Path, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
        """The command, which must end with this code."""
        done = await asyncio.to_thread(
            subprocess.run,
            [COMMAND, *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        assert done.returncode == exit_code, done.stderr
        return done

    async def signature(self, signer: str, withdrawal: str) -> str:
        """What a signer prints, on a machine that need not reach the server."""
        key = self._directory / f"{signer}.key"
        write_signing_key(key, SigningKey(signer, "EdDSA", SIGNERS[signer]))
        asked = ("--signer", signer, "--key", key, "--deployment", DEPLOYMENT)
        return (await self.run("policy", "sign-lifting", withdrawal, *asked)).stdout.strip()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RealServer]:
    with real_server(SignedDeployment(tmp_path)) as running:
        yield running


@pytest.fixture
def operator(server: RealServer, tmp_path: Path) -> Operator:
    return Operator(server, tmp_path)


async def test_a_model_is_closed_under_running_calls_and_opened_by_two_signers(
    server: RealServer, operator: Operator
) -> None:
    why = ("--justification", "Misuse is being looked into.")
    async with Client(server.address, token=server.token()) as client:
        calls = [asyncio.create_task(client.generate("demo-xs", "It was", LONG)) for _ in range(STREAMS)]
        await until("streams run", lambda: server.metric("sluicegate_engine_sequences_running") > 0)

        closed = await operator.run("withdraw", "model", "demo-xs", *why)

        ends = await asyncio.gather(*calls, return_exceptions=True)
        refusals = [end for end in ends if isinstance(end, AccessDenied)]
        assert closed.stdout.startswith("closed: model demo-xs\n")
        assert {refusal.reason for refusal in refusals} == {"MODEL_WITHDRAWN"}
        assert len(refusals) == sum(isinstance(end, BaseException) for end in ends)
        [entry] = json.loads((await operator.run("withdraw", "list", "--json")).stdout)
        assert entry["target"] == {"kind": "model", "model": "demo-xs"}
        assert entry["id"] in (await operator.run("withdraw", "list")).stdout

        lead = ("--signature", await operator.signature("release-lead", entry["id"]))
        lift = ("withdraw", "lift", entry["id"], "--justification", "False alarm.", *lead)
        refused = await operator.run(*lift, exit_code=1)
        assert "(SIGNATURES_REQUIRED)" in refused.stderr
        assert "have 2 signers sign" in refused.stderr
        with pytest.raises(AccessDenied):
            await client.generate("demo-xs", "It was", BRIEF)
        second = await operator.signature("safety-lead", entry["id"])
        lifted = await operator.run(*lift, "--signature", second)

        assert lifted.stdout == "no longer closed by it: model demo-xs\n"
        assert (await client.generate("demo-xs", "It was", BRIEF)).started.model == "demo-xs"
        assert (await operator.run("withdraw", "list")).stdout == "nothing is closed\n"


async def test_a_token_that_leaked_is_closed_from_its_file_and_no_other_is(
    server: RealServer, operator: Operator, tmp_path: Path
) -> None:
    leaked, other = server.token(), server.token()
    (tmp_path / "leaked.token").write_text(leaked)

    await operator.run("withdraw", "token", "--from-file", tmp_path / "leaked.token", "--justification", "In a log.")

    async with Client(server.address, token=leaked) as client:
        with pytest.raises(AuthenticationFailed) as refused:
            await client.whoami()
    async with Client(server.address, token=other) as client:
        assert (await client.whoami()).subject == "alice"
    assert refused.value.reason == "TOKEN_WITHDRAWN"
