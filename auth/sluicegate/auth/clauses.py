"""The clauses of the agreement template, and what the software makes of each.

One table for docs/agreement-template.md, for drafts and for `agreement check`: every term of an agreement's data
belongs to one clause, and what no software can hold is said to be left to people.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sluicegate.auth.agreements import Agreement
from sluicegate.auth.reasons import Reason


@dataclass(frozen=True, slots=True)
class Term:
    """One term of the data: a leaf of the file, or a part that is always written as one."""

    field: str
    """Dotted path, as `output.watermark`."""
    example: str
    """As it may be written into the file."""
    left_out: str | None = None
    """What holds without it; None for a term that every agreement has."""


@dataclass(frozen=True, slots=True)
class Enforcement:
    """What the software does about a clause under the terms of one agreement."""

    text: str
    row: int | None = None
    """Row of the decision table in docs/access.md; None where no call is refused for it."""
    reasons: tuple[Reason, ...] = ()
    """Any of which a call may be refused with."""


@dataclass(frozen=True, slots=True)
class Clause:
    """One numbered clause."""

    number: int
    title: str
    terms: tuple[Term, ...]
    enforcement: Callable[[Agreement], Enforcement | None]
    """None: nothing is enforced under these terms."""
    left_to_people: str = ""
    """What only people can hold each other to, if the clause is agreed; empty where that is nothing."""

    def __str__(self) -> str:
        return f"clause {self.number}, {self.title}"


def clause_of(field: str) -> Clause:
    """The clause that a term belongs to, by its dotted path."""
    return next(clause for clause in CLAUSES if any(term.field == field for term in clause.terms))


def _always(text: str, row: int | None = None, *reasons: Reason) -> Callable[[Agreement], Enforcement]:
    return lambda _: Enforcement(text, row, reasons)


def _nothing(_: Agreement) -> None:
    return None


def _purposes(terms: Agreement) -> Enforcement | None:
    if not terms.purposes:
        return None
    return Enforcement("A call or its token must state one of these.", 14, (Reason.PURPOSE_NOT_PERMITTED,))


def _tokens(terms: Agreement) -> Enforcement | None:
    wanted = {
        Reason.TOKEN_LIFETIME_EXCESSIVE: terms.token.max_lifetime is not None,
        Reason.TOKEN_BINDING_REQUIRED: terms.token.binding == "mtls",
    }
    reasons = tuple(reason for reason, is_wanted in wanted.items() if is_wanted)
    return Enforcement("A call with any other token is refused.", 15, reasons) if reasons else None


def _authentication(terms: Agreement) -> Enforcement | None:
    if not terms.token.acr and terms.token.max_auth_age is None:
        return None
    text = "A call whose token tells of a weaker or an older authentication is refused."
    return Enforcement(text, 15, (Reason.STEP_UP_REQUIRED,))


def _networks(terms: Agreement) -> Enforcement | None:
    if not terms.networks:
        return None
    return Enforcement("A call from anywhere else is refused.", 14, (Reason.NETWORK_NOT_PERMITTED,))


def _hours(terms: Agreement) -> Enforcement | None:
    if terms.hours is None:
        return None
    if terms.hours.mode == "signal":
        return Enforcement("A call outside is served, and counted as outside hours.")
    return Enforcement("A call outside is refused.", 14, (Reason.OUTSIDE_HOURS,))


_QUOTA_REASONS = {
    "concurrent_streams": Reason.CONCURRENCY_LIMIT,
    "requests_per_minute": Reason.REQUEST_RATE_LIMIT,
    "output_tokens_per_minute": Reason.TOKEN_RATE_LIMIT,
    "output_tokens_per_day": Reason.DAILY_TOKEN_QUOTA,
    "scored_tokens_per_day": Reason.DAILY_TOKEN_QUOTA,
}
"""`output_tokens_per_call` refuses nothing: it ends the output."""


def _quotas(terms: Agreement) -> Enforcement | None:
    limited = {name for name, limit in terms.quotas if limit is not None}
    if not limited:
        return None
    reasons = tuple(dict.fromkeys(reason for name, reason in _QUOTA_REASONS.items() if name in limited))
    text = "What goes beyond is cut or refused, over all replicas together."
    return Enforcement(text, 19 if reasons else None, reasons)


def _watermark(terms: Agreement) -> Enforcement | None:
    match terms.output.watermark:
        case "none":
            return None
        case "where_possible":
            return Enforcement("Generated text is marked, unless a call leaves nothing to chance.")
        case "required":
            text = "Generated text is marked. A call that leaves nothing to chance is refused."
            return Enforcement(text, 16, (Reason.OUTPUT_TERMS_CONFLICT,))


def _redaction(terms: Agreement) -> Enforcement | None:
    if terms.output.redaction == "none":
        return None
    text = "What recognisers find is taken out of generated text. A call for tokens or log-probabilities is refused."
    return Enforcement(text, 16, (Reason.OUTPUT_TERMS_CONFLICT,))


def _flagged(terms: Agreement) -> Enforcement:
    if terms.output.flagged == "count":
        return Enforcement("Text that meets the operator's lexicon, if there is one, is counted.")
    return Enforcement("Text that meets the operator's lexicon, if there is one, ends there (finish reason FLAGGED).")


def _findings(terms: Agreement) -> Enforcement | None:
    if terms.findings is None:
        return None
    return Enforcement("What is overdue is shown to both sides and raises an alert. Nothing is refused for it.")


CLAUSES = (
    Clause(
        1,
        "Parties",
        (Term("id", "agr-example-lab-2026-01"), Term("partner", "example-lab")),
        _always("A token that names an agreement that is not on file is refused.", 13, Reason.AGREEMENT_UNKNOWN),
    ),
    Clause(
        2,
        "Models",
        (Term("models", "[gpt2-774m]"),),
        _always(
            "It opens no other, and none that the stage in force does not open to partners.",
            13,
            Reason.MODEL_NOT_RELEASED,
        ),
    ),
    Clause(
        3,
        "Permitted actions",
        (Term("actions", "[generate, score]"),),
        _always("Any other action is refused.", 14, Reason.ACTION_NOT_PERMITTED),
    ),
    Clause(
        4,
        "Purposes",
        (Term("purposes", "[human-susceptibility]", left_out="no purpose need be stated"),),
        _purposes,
        left_to_people="That the stated purpose is the true one.",
    ),
    Clause(
        5,
        "Non-commercial use",
        (Term("legal.non_commercial", "true", left_out="commercial use is not excluded"),),
        _nothing,
        left_to_people="All of it: what a text is used for, no server sees.",
    ),
    Clause(
        6,
        "Term",
        (Term("valid.from", "2026-01-20T00:00:00Z"), Term("valid.until", "2027-01-20T00:00:00Z")),
        _always(
            "A call before it or after it is refused; running ones end with it.",
            14,
            Reason.AGREEMENT_NOT_ACTIVE,
            Reason.AGREEMENT_EXPIRED,
        ),
    ),
    Clause(
        7,
        "Clients",
        (Term("clients", '[{issuer: "https://issuer.example", client: example-lab-eval}]'),),
        _always(
            "A token that names this agreement is refused from any other client.", 13, Reason.AGREEMENT_CLIENT_MISMATCH
        ),
        left_to_people="Which people act through a client.",
    ),
    Clause(
        8,
        "Tokens",
        (
            Term("token.max_lifetime", "15m", left_out="as long as the server allows"),
            Term("token.binding", "mtls", left_out="tokens need not be bound to a certificate"),
        ),
        _tokens,
        left_to_people="That keys and tokens are kept secret, and a leak is reported.",
    ),
    Clause(
        9,
        "Authentication",
        (
            Term("token.acr", '["urn:example:acr:mfa"]', left_out="of any strength"),
            Term("token.max_auth_age", "8h", left_out="of any age"),
        ),
        _authentication,
    ),
    Clause(
        10,
        "Networks",
        (Term("networks", "[192.0.2.0/24]", left_out="from anywhere"),),
        _networks,
    ),
    Clause(
        11,
        "Hours",
        (
            Term("timezone", "America/New_York"),
            Term("hours.weekdays", '"07:00-22:00"', left_out="outside, where there are hours"),
            Term("hours.weekends", '"10:00-16:00"', left_out="outside, where there are hours"),
            Term("hours.mode", "enforce", left_out="calls outside are counted, not refused"),
        ),
        _hours,
    ),
    Clause(
        12,
        "Quotas",
        (Term("quotas", "{output_tokens_per_call: 512, requests_per_minute: 60, concurrent_streams: 4}"),),
        _quotas,
    ),
    Clause(
        13,
        "Priority",
        (Term("max_priority", "5", left_out="0"),),
        _always("A higher priority than this counts as this. It orders the partner's own calls alone."),
    ),
    Clause(
        14,
        "Watermark",
        (Term("output.watermark", "required", left_out="text is not marked"),),
        _watermark,
        left_to_people="That the mark is not removed.",
    ),
    Clause(
        15,
        "Personal data",
        (Term("output.redaction", "pii", left_out="nothing is taken out"),),
        _redaction,
        left_to_people="What is done with personal data that is in the output all the same.",
    ),
    Clause(
        16,
        "Flagged text",
        (Term("output.flagged", "stop", left_out="such text is counted"),),
        _flagged,
    ),
    Clause(
        17,
        "Findings",
        (Term("findings.due_every", "90d", left_out="there is no duty to report"),),
        _findings,
        left_to_people="That a finding is honest and tells enough.",
    ),
    Clause(18, "Publication", (), _nothing, left_to_people="All of it."),
    Clause(
        19,
        "Records",
        (),
        _always(
            "Where the server keeps an audit log, a call whose entry cannot be written is not begun.",
            21,
            Reason.AUDIT_UNAVAILABLE,
        ),
        left_to_people="Who reads them, and for how long they are kept.",
    ),
    Clause(
        20,
        "Suspension and termination",
        (Term("status", "draft"),),
        _always(
            "Unless it is active, it opens nothing, and running calls end.",
            14,
            Reason.AGREEMENT_NOT_ACTIVE,
            Reason.AGREEMENT_WITHDRAWN,
        ),
        left_to_people="That what was received is deleted, where that is agreed.",
    ),
    Clause(
        21,
        "The document and its data",
        (
            Term("legal.document", "Model Sharing Agreement"),
            Term("legal.sha256", "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"),
            Term("legal.signed_on", "2026-01-12"),
            Term("signature", '{signer: legal-lead, value: "…"}', left_out="not signed"),
        ),
        _always("Where signatures are checked, it is in force as a signer signed it, or not at all."),
        left_to_people="That the data says what the document says: compare them before it is signed.",
    ),
)
"""In the order of the template."""
