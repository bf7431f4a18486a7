"""The demo's world with signatures on: gates before stage s3, two signers, and tokens of those who act."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

from sluicegate.auth import (
    agreement_payload,
    create_signing_key,
    internal_client_payload,
    issue_token,
    read_signing_key,
    sign,
    write_signing_key,
)
from sluicegate.auth.signer_options import read_signers_key
from sluicegate.server.demo.world import (
    AUDIENCE,
    INSIDER,
    ISSUER,
    PARTNER,
    TOKEN_SECONDS,
    VISITOR,
    Caller,
    World,
    write_world,
)

DEPLOYMENT = "demo-release"
MODEL = "demo-m"
SIGNERS = ("release-lead", "safety-lead")
LAB = Caller("lab", PARTNER.client, (*PARTNER.scopes, "findings:write", "findings:read"))
EVALUATOR = Caller("evaluator", INSIDER.client, INSIDER.scopes)
OPERATOR = Caller("operator", "operations", ("release:read", "release:withdraw", "findings:read", "findings:manage"))
GATES = {
    "bias": {"evidence": "bias", "suite": "occupations", "share_between": ["35%", "65%"]},
    "recital": {"evidence": "memorisation", "most_matched": "5%", "least_samples": 100},
}
REQUIRES = [
    {"gate": "bias", "model": MODEL},
    {"gate": "recital", "model": MODEL},
    {"finding": "example-lab", "model": MODEL},
]


@dataclass(frozen=True, slots=True)
class ReleaseWorld:
    """Where everything is."""

    base: World

    @property
    def directory(self) -> Path:
        return self.base.directory

    @property
    def policy(self) -> Path:
        return self.base.policy

    @property
    def trust(self) -> Path:
        return self.directory / "trust.yaml"

    @property
    def corpus(self) -> Path:
        return self.directory / "corpus"

    def key(self, signer: str) -> Path:
        return self.directory / "signers" / f"{signer}.key"


def write_release_world(directory: Path) -> ReleaseWorld:
    """Write it into a claimed directory. Raises ModelsMissing."""
    world = ReleaseWorld(write_world(directory, datetime.now(UTC)))
    _write_signers(world)
    _write_settings(world)
    _write_policy(world)
    _write_tokens(world)
    world.corpus.mkdir(exist_ok=True)
    for document in ("README.md", "CHANGELOG.md", "LICENSE"):
        source = Path(__file__).parents[2] / document
        (world.corpus / f"{document}.txt").write_bytes(source.read_bytes())
    return world


def _write_signers(world: ReleaseWorld) -> None:
    world.key("").parent.mkdir(mode=0o700, exist_ok=True)
    public = []
    for name in SIGNERS:
        world.key(name).unlink(missing_ok=True)
        key = create_signing_key("EdDSA", key_id=name)
        write_signing_key(world.key(name), key)
        public.append({"id": name, "public_key": key.public_jwk()["x"]})
    trust = {"deployment": DEPLOYMENT, "threshold": len(SIGNERS), "signers": public}
    world.trust.write_text(yaml.safe_dump(trust, sort_keys=False), encoding="utf-8")


def _write_settings(world: ReleaseWorld) -> None:
    """Signatures on; with slots for one visitor at a time, so that some still stream when the stage goes back."""
    settings = yaml.safe_load(world.base.settings.read_text(encoding="utf-8"))
    settings["policy"]["signatures"] = yaml.safe_load(world.trust.read_text(encoding="utf-8"))
    world.base.settings.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")


def _write_policy(world: ReleaseWorld) -> None:
    """Gates before s3; the agreement and the internal client signed, as a policy with signatures wants them."""
    key = read_signers_key(world.key(SIGNERS[0]))
    release = yaml.safe_load(world.base.release.read_text(encoding="utf-8"))
    release["gates"] = GATES
    release["stages"][2]["requires"] = REQUIRES
    release["public"]["quotas"] = {"output_tokens_per_call": 1000}
    # s2 is the first stage of this deployment, and needs no signatures.
    release["stages"] = release["stages"][1:]
    for client in release["internal"]["clients"]:
        value = sign(key, internal_client_payload(DEPLOYMENT, client["issuer"], client["client"]))
        client["signature"] = {"signer": SIGNERS[0], "value": value}
    world.base.release.write_text(yaml.safe_dump(release, sort_keys=False), encoding="utf-8")
    path = world.policy / "agreements/example-lab.yaml"
    agreement = yaml.safe_load(path.read_text(encoding="utf-8"))
    agreement["findings"] = {"due_every": "90d"}
    value = sign(key, agreement_payload(DEPLOYMENT, agreement))
    path.write_text(
        yaml.safe_dump({**agreement, "signature": {"signer": SIGNERS[0], "value": value}}, sort_keys=False),
        encoding="utf-8",
    )


def _write_tokens(world: ReleaseWorld) -> None:
    key = read_signing_key(world.base.key)
    for caller in (VISITOR, LAB, EVALUATOR, OPERATOR):
        token = issue_token(
            key,
            issuer=ISSUER,
            audience=AUDIENCE,
            subject=caller.client,
            client_id=caller.client,
            scopes=caller.scopes,
            now=time.time(),
            lifetime_seconds=TOKEN_SECONDS,
        )
        path = world.base.token(caller)
        path.touch(mode=0o600)
        path.write_text(token + "\n", encoding="ascii")
