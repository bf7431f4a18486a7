"""The first lines: which servers answer, which policy is in force, and whether control is in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rich.text import Text

from sluicegate.server.watch.figures import Control, ServerFigures, View
from sluicegate.server.watch.texts import age, compact, name

GOOD, QUIET, WARNING, WRONG = "green", "dim", "yellow", "bold red"
MAX_PROBLEMS = 3
SHOWN_REVISION = 12

STALE_SECONDS = {
    "audit": (120.0, 180.0),
    "withdrawals": (2.0, 5.0),
    "keys": (3_600.0, 72_000.0),
    "signals": (60.0, 300.0),
}
"""From when on an age is shown as a warning, and as wrong. Withdrawals: asked for twice a second, refused after 5 s
(row 17). Keys: as both alerts KeysStale, since at 24 h tokens are refused. Audit: a checkpoint a minute by default;
twice that is late, and from three times on the alert AuditStopped pages."""


def headline(view: View, width: int) -> list[Text]:
    """Some lines, each cut to the width."""
    lines = [_servers(view), *_problems(view.servers)]
    if view.answering:
        lines += [_policies(view), _control(view.control)]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
        line.no_wrap = True
    return [*lines, Text()]


def _servers(view: View) -> Text:
    answering, count = view.answering, len(view.servers)
    line = Text("sluicegate  ", style="bold")
    if count == 1:
        line.append(name(view.servers[0].name), style=GOOD if answering else WRONG)
    else:
        line.append(f"{answering} of {count} servers answer", style=GOOD if answering == count else WRONG)
    return line


def _problems(servers: tuple[ServerFigures, ...]) -> Iterator[Text]:
    failing = [server for server in servers if server.problem is not None]
    for server in failing[:MAX_PROBLEMS]:
        yield Text.assemble((f"{name(server.name)}: {name(server.problem or '', 120)}", WRONG))
    if len(failing) > MAX_PROBLEMS:
        yield Text(f"and {len(failing) - MAX_PROBLEMS} servers more", style=WRONG)


def _policies(view: View) -> Text:
    policies = [
        f"stage {name(stage, 24) or 'unknown'}, revision {name(revision)[:SHOWN_REVISION] or 'unknown'}"
        for revision, stage in view.policies
    ]
    if len(policies) == 1:
        return Text.assemble(("policy  ", "bold"), policies[0])
    line = Text.assemble(("POLICY SKEW  ", WRONG))
    in_force = Counter((each.revision or "", each.stage or "") for each in view.servers if not each.problem)
    by_policy = [f"{text} on {in_force[policy]}" for text, policy in zip(policies, view.policies, strict=True)]
    return line.append("; ".join(by_policy), style=WRONG)


def _control(control: Control) -> Text:
    line = Text()
    for what, seconds, is_enabled in (
        ("audit", control.audit_checkpoint_age, control.audit_enabled),
        ("withdrawals", control.withdrawals_age, None),
        ("keys", control.keys_age, None),
        ("signals", control.signals_exchange_age, control.signals_enabled),
    ):
        line.append(f"{'  ' if line else ''}{what} ", style="bold")
        line.append_text(Text("off", style=WARNING) if is_enabled is False else _age(what, seconds))
    if control.withdrawals_in_force is not None:
        line.append("  withdrawn ", style="bold")
        line.append(compact(control.withdrawals_in_force), style=WARNING if control.withdrawals_in_force else "")
    return line


def _age(what: str, seconds: float | None) -> Text:
    warning, wrong = STALE_SECONDS[what]
    if seconds is None:
        return Text(age(None), style=QUIET)
    return Text(age(seconds), style=WRONG if seconds > wrong else WARNING if seconds > warning else GOOD)
