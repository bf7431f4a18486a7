"""What can go wrong in access control: one class for each thing a caller of this package can do about it.

AuthError
├── AuthenticationError   a call carries no usable token: answer the caller with its reason
├── KeySetError           a key set or a signing key is refused whole: keep the last good one, report
│   └── KeySetNotFound    nothing is published at this URL: look at the other place, if there is one
├── PolicyError           a policy directory is refused whole: keep the last good revision, report
├── ComparisonError       two policies are too large to compare caller by caller: compare them term by term
├── RecordError           a recorded call cannot be read: correct the line that the text names
├── ConfigurationError    a check would be weaker than it must be: do not start
├── EditingError          a policy file cannot be changed: do what the text says, or change it by hand
├── IssuingError          the development issuer was asked for something it will not sign or write
└── SigningError          a policy change is not there, or not ready, to be signed: do first what the text says
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from sluicegate.auth.reasons import Reason

_NOTHING: Mapping[str, str] = MappingProxyType({})


class AuthError(Exception):
    """Root of everything that this package raises on purpose."""


class AuthenticationError(AuthError):
    """A caller is not known, by one of rows 2 to 8 of the decision order.

    `detail` holds public facts only; neither it nor the text ever holds a part of the token.
    """

    def __init__(self, reason: Reason, detail: Mapping[str, str] = _NOTHING) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.detail = detail


class KeySetError(AuthError):
    """A JSON Web Key Set could not be read or has a key in it that must not be trusted."""


class KeySetNotFound(KeySetError):
    """A URL answered 404."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a policy directory: where it stands and what to do."""

    file: str
    field: str
    """Dotted path inside the file, as `stages.1.open`; empty for the whole file."""
    text: str

    def __str__(self) -> str:
        place = f"{self.file}: {self.field}" if self.field else self.file
        return f"{place}: {self.text}"


class PolicyError(AuthError):
    """A policy directory is refused; `problems` lists everything that is wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class ComparisonError(AuthError):
    """Two policies have too many callers and models to look at each."""


class RecordError(AuthError):
    """A line of recorded calls is no record."""


class ConfigurationError(AuthError):
    """Trust was set up in a way that would leave a check out or make it weaker."""


class EditingError(AuthError):
    """A policy file was not changed; it is as it was."""


class IssuingError(AuthError):
    """The development issuer cannot make this key or token."""


class SigningError(AuthError):
    """There is nothing to sign, or it is not ready for this signer; the text says what to do first."""
