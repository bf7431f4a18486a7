"""`sluicegate policy diff`: what a change of policy means, in words or as data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from sluicegate.auth.comparing import Comparison, compare
from sluicegate.auth.differences import Difference, Effect, Signing
from sluicegate.auth.errors import PolicyError
from sluicegate.auth.loading import load_policy
from sluicegate.auth.policy import Policy
from sluicegate.auth.terminal import JsonFlag, err, out, print_json, printable, show_problems

NO_DIFFERENCE, DIFFERENT, BAD_POLICY = 0, 1, 3
"""Exit codes; 2 is wrong usage."""

_SIGNATURES = {
    Signing.TRANSITION: "a transition signed by as many signers as the settings say",
    Signing.ONE: "one signature over each agreement and internal client that needs it",
}


def policy_diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="Directory of the policy as it is.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Directory of the policy as it would be.")],
    as_json: JsonFlag = False,
) -> None:
    """Say what a change of policy means: what opens, to whom, what closes, and whose signatures it needs.

    Exit code 0: no difference; 1: differences; 3: one of both is no good policy. Signatures are not checked here.
    """
    comparison = compare(read_policy(old), read_policy(new))
    if as_json:
        print_json(plain(comparison))
    else:
        _show(comparison)
    raise typer.Exit(DIFFERENT if comparison.differences else NO_DIFFERENCE)


def read_policy(directory: Path) -> Policy:
    """The policy of a directory, signatures unchecked. Shows its problems and exits if it is not good."""
    try:
        return load_policy(directory, None)
    except PolicyError as error:
        err(f"{directory}:")
        show_problems(error.problems)
        raise typer.Exit(BAD_POLICY) from None


def plain(comparison: Comparison) -> dict[str, object]:
    """The comparison as JSON has it."""
    return {
        "opens_wider": comparison.opens_wider,
        "signatures": sorted(comparison.signings),
        "differences": [
            {
                "subject": each.subject,
                "field": each.field,
                "before": each.before,
                "after": each.after,
                "effect": each.effect.value,
                "signature": each.signing.value,
            }
            for each in comparison.differences
        ],
    }


def show_differences(differences: Sequence[Difference]) -> None:
    """Write a line for each; what opens comes first."""
    for effect in Effect:
        for each in differences:
            if each.effect is effect:
                place = f"{each.subject}: {each.field}" if each.field else each.subject
                out(printable(f"{effect.value:8} {place}: {_step(each)}"))


def _show(comparison: Comparison) -> None:
    show_differences(comparison.differences)
    if not comparison.differences:
        out("No difference.")
        return
    out("Opens wider." if comparison.opens_wider else "Opens nothing.")
    for signing in Signing:
        if signing in comparison.signings:
            out(f"Needs {_SIGNATURES[signing]}.")


def _step(difference: Difference) -> str:
    if difference.before is None:
        return f"+ {difference.after}"
    if difference.after is None:
        return f"- {difference.before}"
    return f"{difference.before} -> {difference.after}"
