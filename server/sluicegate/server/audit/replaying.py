"""Calls of an audit log in the form in which `policy simulate` replays them (docs/policy.md).

A log has pseudonyms for clients: with its secret, those of the clients that a policy names can be found again. Whoever
is none of them is the public to that policy, under any name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from sluicegate.auth import Reason
from sluicegate.auth.recorded import RecordedCall
from sluicegate.server.audit.entries import OTHER, Opening
from sluicegate.server.audit.files import list_files
from sluicegate.server.audit.form import Record, parse_line
from sluicegate.server.audit.pseudonyms import Pseudonyms
from sluicegate.server.audit.reading import read_lines

UNKNOWN_ISSUER = "unknown"
"""Of a client that no policy names; its own name is then its pseudonym."""

_ACTIONS = {"generate": "generate", "tokenize": "generate", "score": "score"}
_NOT_ON_RECORD = frozenset(
    {
        Reason.NETWORK_NOT_PERMITTED,
        Reason.TOKEN_LIFETIME_EXCESSIVE,
        Reason.TOKEN_BINDING_REQUIRED,
        Reason.STEP_UP_REQUIRED,
    }
)
"""Refusals for what an opening does not tell of the caller."""

Client = tuple[str, str]
"""Issuer and name."""


class Replaying:
    """Turns openings back into calls. `clients`: those whose names may be found again."""

    def __init__(self, names: Pseudonyms, clients: Collection[Client]) -> None:
        self._clients = {names.of("client", issuer, name): (issuer, name) for issuer, name in clients}

    def asked(self, record: Record) -> bool:
        """Whether the record is of a call that came to ask for a model."""
        entry = record.entry
        return isinstance(entry, Opening) and entry.action in _ACTIONS and entry.model is not None

    def call(self, record: Record) -> RecordedCall | None:
        """The call of a record that `asked`; None if the record leaves out what decided it."""
        opening = record.entry
        assert isinstance(opening, Opening)
        if OTHER in (opening.model, opening.purpose, opening.agreement) or opening.reason in _NOT_ON_RECORD:
            return None
        members: dict[str, object | None] = {
            "at": datetime.fromisoformat(record.at).timestamp(),
            "scopes": list(opening.scopes),
            "agreement": opening.agreement if opening.is_claimed_by_token else None,
            "action": _ACTIONS[opening.action],
            "model": opening.model,
            "purpose": opening.purpose,
            "logprobs": opening.logprobs,
            "greedy": opening.greedy,
            "token_bytes": opening.token_bytes,
            "network": opening.network,
        }
        if opening.client is not None:
            issuer, client = self._clients.get(opening.client, (UNKNOWN_ISSUER, opening.client))
            members |= {"issuer": issuer, "client": client}
        try:
            return RecordedCall.model_validate({name: value for name, value in members.items() if value is not None})
        except ValidationError:  # a name that no policy could have
            return None


class OwnCalls:
    """The calls in this replica's own log, for a use case that replays them. Verifies nothing: `audit verify` does."""

    def __init__(self, directory: Path, names: Pseudonyms) -> None:
        self._directory = directory
        self._names = names

    def recent(self, clients: Collection[Client]) -> Iterator[RecordedCall | None]:
        """The calls, the latest first; None for one whose record leaves out what decided it. Reads files: in a thread.

        A line that is being written is passed over. Needs memory for one file of the log.
        """
        replaying = Replaying(self._names, clients)
        for file in reversed(list_files(self._directory)):
            records = [record for record in _records(self._directory / file.name) if replaying.asked(record)]
            yield from map(replaying.call, reversed(records))


def _records(path: Path) -> Iterator[Record]:
    for line in read_lines(path):
        try:
            yield parse_line(line.data)
        except ValueError:
            continue
