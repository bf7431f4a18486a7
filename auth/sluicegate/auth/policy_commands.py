"""The command line of policies: check one, ask it what it would decide, compare two, sign a change.

Exit codes: 0 done or allowed, 1 refused (a bad policy, a denied call, nothing to sign), 2 wrong usage; `diff` and
`simulate` have their own.
"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from sluicegate.auth.diff_command import policy_diff
from sluicegate.auth.documents import parse_document
from sluicegate.auth.encoding import encode_base64url
from sluicegate.auth.errors import IssuingError, PolicyError, SigningError
from sluicegate.auth.explain_command import policy_explain
from sluicegate.auth.lifting_command import policy_sign_lifting
from sluicegate.auth.loading import EVIDENCE_DIRECTORY, RELEASE_FILE, parse_policy, read_evidence, read_policy_files
from sluicegate.auth.policy import Policy
from sluicegate.auth.signatures import plan_digest, sign
from sluicegate.auth.signer_options import Deployment, KeyFile, Signer, read_signers_key
from sluicegate.auth.signing import Signable, signable
from sluicegate.auth.simulate_command import policy_simulate
from sluicegate.auth.terminal import JsonFlag, err, out, print_json, show_problems, stop
from sluicegate.auth.trust_file import PolicyDirectory, TrustFile, read_trust

policy_app = typer.Typer(help="Check a policy, ask it what it would decide, sign a change.", no_args_is_help=True)

policy_app.command("explain")(policy_explain)
policy_app.command("diff")(policy_diff)
policy_app.command("simulate")(policy_simulate)
policy_app.command("sign-lifting")(policy_sign_lifting)


@policy_app.command("check")
def policy_check(directory: PolicyDirectory, trust: TrustFile = None, as_json: JsonFlag = False) -> None:
    """Load a policy as the server would, and list everything that is wrong with it."""
    try:
        contents = read_policy_files(directory)
        policy = parse_policy(directory, contents, read_trust(trust), read_evidence(directory))
    except PolicyError as error:
        if as_json:
            problems = [{"file": each.file, "field": each.field, "text": each.text} for each in error.problems]
            print_json({"valid": False, "problems": problems})
        else:
            show_problems(error.problems)
            err(f"{len(error.problems)} problem(s); the server would keep the revision that it has")
        raise typer.Exit(1) from None
    digest = plan_digest(parse_document(contents[RELEASE_FILE]))
    if not as_json:
        _show_policy(policy, digest)
        return
    print_json(
        {
            "valid": True,
            "revision": policy.revision,
            "plan_sha256": digest,
            "stage": policy.stage.id,
            "models": list(policy.models),
            "agreements": sorted(policy.agreements),
            "signatures_checked": policy.is_signed,
            "evidence": {each.file: each.sha256 for each in policy.evidence.files},
            "unusable_evidence": dict(policy.evidence.unusable),
        }
    )


@policy_app.command("sign")
def policy_sign(
    directory: PolicyDirectory,
    *,
    key: KeyFile,
    signer: Signer,
    deployment: Deployment,
    agreement: Annotated[str | None, typer.Option(help="Sign the agreement of this id.")] = None,
    internal_client: Annotated[str | None, typer.Option(help="Sign this client of `internal.clients`.")] = None,
    transition: Annotated[int | None, typer.Option(min=1, help="Sign the transition of this number, from 1.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Sign one widening of a policy and print the signature; you put it into the file.

    What is signed is shown on standard error: read it before you pass the signature on.
    """
    if sum(each is not None for each in (agreement, internal_client, transition)) != 1:
        raise typer.BadParameter("give exactly one of --agreement, --internal-client and --transition")
    try:
        private_key = read_signers_key(key)
        contents = read_policy_files(directory)
        plan = parse_policy(directory, contents, None).plan
        content = signable(
            plan,
            {name: parse_document(raw) for name, raw in contents.items()},
            deployment,
            signer,
            agreement=agreement,
            internal_client=internal_client,
            transition=transition,
        )
    except (IssuingError, SigningError) as error:
        stop(str(error))
    except PolicyError as error:
        show_problems(error.problems)
        raise typer.Exit(1) from None
    public_key = encode_base64url(private_key.public_key().public_bytes_raw())
    _show_signature(content, signer, sign(private_key, content.payload), public_key, as_json)


def _show_policy(policy: Policy, digest: str) -> None:
    console = Console()
    console.print(f"revision {policy.shown_revision}, stage {policy.stage.id} ({policy.stage.name})", markup=False)
    table = Table("model", "open to", "agreements", box=None)
    for model in policy.models:
        opened_to = policy.stage.open.get(model)
        naming = [each.id for each in policy.agreements.values() if model in each.models]
        table.add_row(model, opened_to.value if opened_to else "nobody", ", ".join(naming))
    console.print(table)
    out(f"plan_sha256: {digest}")
    for name, text in policy.evidence.unusable.items():
        err(f"{EVIDENCE_DIRECTORY}/{name}: {text}; it is not looked at")
    if not policy.is_signed:
        console.print("Signatures were not checked (no --trust).", style="yellow")


def _show_signature(content: Signable, signer: str, value: str, public_key: str, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "signed": content.payload.decode("utf-8"),
                "place": content.place,
                "signer": signer,
                "value": value,
                "public_key": public_key,
            }
        )
        return
    err(f"signed {content.payload.decode('utf-8')}")
    err(f"with the key {public_key}; put this into {content.place}:")
    out(value if content.is_listed else f"signature: {{signer: {signer}, value: {value}}}")
