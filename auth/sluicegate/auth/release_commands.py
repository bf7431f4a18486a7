"""`sluicegate release advance` and `release sign`: the next stage, in the files of a policy.

Exit codes: 0 done, 1 refused (something is missing, a signature does not hold), 2 wrong usage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from sluicegate.auth.advancing import PolicyFiles, Step, closing_entry
from sluicegate.auth.encoding import encode_base64url
from sluicegate.auth.errors import EditingError, IssuingError, PolicyError, SigningError
from sluicegate.auth.loading import RELEASE_FILE
from sluicegate.auth.pending import PENDING_FILE, PendingTransition
from sluicegate.auth.requirements import Judgement
from sluicegate.auth.signatures import TrustRoot, sign
from sluicegate.auth.signer_options import KeyFile, Signer, read_signers_key
from sluicegate.auth.terminal import err, out, printable, show_problems, stop
from sluicegate.auth.trust_file import PolicyDirectory, read_input, read_trust

Trust = Annotated[
    Path,
    typer.Option(
        "--trust", metavar="FILE", help="Who may sign: policy.signatures of the server's settings, in a file alone."
    ),
]


def advance(
    directory: PolicyDirectory,
    *,
    trust: Trust,
    to: Annotated[str | None, typer.Option("--to", metavar="STAGE", help="The stage to go to.")] = None,
    cite: Annotated[
        list[Path] | None,
        typer.Option("--cite", metavar="FILE", help="Another paper that the signers see; its digest is cited."),
    ] = None,
    abandon: Annotated[bool, typer.Option("--abandon", help="Drop the proposal that is there.")] = False,
) -> None:
    """Take a policy to another stage: propose, have it signed, and run the same command again.

    Where the stage opens wider, its requirements are held against the evidence in DIR/evidence, and what is missing is
    listed. With all of them met the step is proposed in a file beside release.yaml; once enough signers have signed it
    (`release sign`), the transition is written and the stage is active. A narrower stage is written at once.
    """
    root = read_trust(trust)
    assert root is not None
    try:
        files = PolicyFiles(directory, root)
        if abandon:
            out("the proposal is gone" if files.abandon() else "there is no proposal")
            return
        pending = files.pending()
        if pending is not None:
            _complete(files, root, pending, to)
        elif to is None:
            raise typer.BadParameter("there is no proposal; name a stage with --to")
        else:
            _begin(files, root, to, [hashlib.sha256(read_input(path)).hexdigest() for path in cite or ()])
    except (SigningError, EditingError) as error:
        stop(str(error))
    except PolicyError as error:
        show_problems(error.problems)
        raise typer.Exit(1) from None


def sign_proposal(
    directory: PolicyDirectory,
    *,
    key: KeyFile,
    signer: Signer,
    trust: Trust,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; for scripts that have shown it before.")] = False,
) -> None:
    """Look at a proposed step and its evidence, and sign it."""
    root = read_trust(trust)
    assert root is not None
    try:
        private_key = read_signers_key(key)
        files = PolicyFiles(directory, root)
        pending = files.pending()
        if pending is None:
            raise SigningError(f"there is no proposal; `release advance {directory} --to STAGE` makes one")
        public_key = private_key.public_key()
        if signer not in root.signers:
            raise SigningError(f"{signer} is no signer of this deployment")
        if root.signers[signer].public_bytes_raw() != public_key.public_bytes_raw():
            raise SigningError(f"{key} is not the key that {signer} has in {trust}")
        if signer in pending.signed_by(root, files.policy.plan):
            raise SigningError(f"{signer} has signed; another one must be somebody else's")
        step = files.step(pending.to, datetime.now(UTC))
        _show(files, step, pending)
        _refuse_unmet(step, pending)
        if not yes and not typer.confirm("Sign this step?", err=True):
            raise typer.Exit(1)
        payload = pending.payload(root, files.policy.plan)
        files.add_signature(signer, sign(private_key, payload))
    except (IssuingError, SigningError, EditingError) as error:
        stop(str(error))
    except PolicyError as error:
        show_problems(error.problems)
        raise typer.Exit(1) from None
    out(f"signed by {signer} with the key {encode_base64url(public_key.public_bytes_raw())}")


def _begin(files: PolicyFiles, root: TrustRoot, to: str, papers: Sequence[str]) -> None:
    """Propose the step; one that opens nothing is taken at once."""
    now = datetime.now(UTC)
    step = files.step(to, now)
    if not step.must_be_signed:
        files.take(to, closing_entry(step, now))
        out(f"{to} is active in {RELEASE_FILE}; it opens nothing, so nobody signs")
        return
    _show(files, step, None)
    _refuse_unmet(step, None)
    files.propose(step, papers)
    out(f"proposed in {PENDING_FILE}; {root.threshold} of {', '.join(root.signers)} sign it with `release sign`")


def _complete(files: PolicyFiles, root: TrustRoot, pending: PendingTransition, to: str | None) -> None:
    """Take a step that is signed."""
    if to not in (None, pending.to):
        raise SigningError(f"a step to {pending.to} is proposed; finish it, or drop it with --abandon")
    signed = pending.signed_by(root, files.policy.plan)
    for signer in pending.signatures.keys() - signed.keys():
        err(f"the signature of {signer} does not hold for this step")
    if len(signed) < root.threshold:
        names = ", ".join(signed) or "nobody"
        raise SigningError(f"signed by {names}; {root.threshold} different signers must, of {', '.join(root.signers)}")
    files.take(pending.to, pending.as_of(datetime.now(UTC), signed))
    files.abandon()
    out(f"{pending.to} is active in {RELEASE_FILE}, signed by {', '.join(signed)}")


def _refuse_unmet(step: Step, pending: PendingTransition | None) -> None:
    """Raises SigningError where a requirement is not met or rests on evidence that the proposal does not cite."""
    if step.unmet:
        raise SigningError(f"{len(step.unmet)} of {len(step.judgements)} requirements are not met")
    if pending is not None and not set(step.evidence_sha256) <= set(pending.evidence_sha256):
        raise SigningError("there is newer evidence than the proposal cites; drop it with --abandon, and propose anew")


def _show(files: PolicyFiles, step: Step, pending: PendingTransition | None) -> None:
    """What the step does and rests on, for who decides on it."""
    err(f"from {step.before.id} ({step.before.name}) to {step.after.id} ({step.after.name})")
    for model in files.policy.models:
        before, after = step.before.open.get(model), step.after.open.get(model)
        if before is not after:
            err(f"  {model}: {before.value if before else 'nobody'} -> {after.value if after else 'nobody'}")
    for each in step.judgements:
        err(f"  {each.state:8}{each.requirement.name} of {each.requirement.model}: {_ground(each)}")
    if pending is not None:
        for digest in pending.evidence_sha256:
            if digest not in step.evidence_sha256:
                err(f"  cited   {digest}")


def _ground(found: Judgement) -> str:
    if found.evidence is None or not found.is_met:
        return printable(found.explanation)
    return f"{found.evidence.file} of {found.evidence.evidence.ended:%Y-%m-%d}, {found.evidence.sha256[:16]}"
