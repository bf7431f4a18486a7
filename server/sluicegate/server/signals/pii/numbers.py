"""Payment cards, bank accounts and national identity numbers: those whose form or check digits are hard to mistake."""

from __future__ import annotations

from collections.abc import Callable

import re2
import stdnum.br.cpf
import stdnum.es.nif
import stdnum.fr.nir
import stdnum.iban
import stdnum.it.codicefiscale
import stdnum.luhn
import stdnum.us.ssn

from sluicegate.server.signals.pii.borders import shortened, stands_alone

_GAP = rb"[ .-]{1,3}"
CARD = (
    rb"\b(?:[0-9]{14,19}|[0-9]{4}" + _GAP + rb"[0-9]{6}" + _GAP + rb"[0-9]{4,5}|"
    rb"[0-9]{4}" + (_GAP + rb"[0-9]{4}") * 3 + rb"(?:" + _GAP + rb"[0-9]{1,3})?)\b"
)
IBAN = rb"\b[A-Za-z]{2}[0-9]{2}(?:[ -]?[0-9A-Za-z]){11,30}"

_ISSUERS = re2.compile(
    rb"4[0-9]{15}(?:[0-9]{3})?"  # Visa
    rb"|(?:5[1-5][0-9]{2}|222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}"  # Mastercard
    rb"|3[47][0-9]{13}"  # American Express
    rb"|(?:6011|64[4-9][0-9]|65[0-9]{2})[0-9]{12}"  # Discover
    rb"|(?:30[0-5]|3[689][0-9])[0-9]{11}"  # Diners Club
    rb"|35(?:2[89]|[3-8][0-9])[0-9]{12}"  # JCB
    rb"|62[0-9]{14,17}"  # UnionPay
    rb"|(?:5018|5020|5038|5893|6304|6759|676[1-3])[0-9]{12}"  # Maestro
)
"""Issuer ranges and lengths in use, of ISO/IEC 7812's numbers. Visa's old 13 digits are left out: EAN codes have 13."""
_CARD = re2.compile(CARD)
_IBAN = re2.compile(IBAN)


def card(window: bytes, start: int) -> int | None:
    """The end of the card number that begins at `start`, or None: a known issuer, and Luhn's check digit."""
    match = _CARD.match(window, start)
    if match is None:
        return None
    for end in shortened(window, start, match.end(), 1):
        digits = window[start:end].translate(None, b" .-")
        if _ISSUERS.fullmatch(digits) and stands_alone(window, start, end) and stdnum.luhn.is_valid(digits.decode()):
            return end
    return None


def iban(window: bytes, start: int) -> int | None:
    """The end of the IBAN that begins at `start`, or None: ISO 13616's check digits and the country's own form.

    How long it is depends on the country, and words may follow, so each length is tried: the checks fit one.
    """
    match = _IBAN.match(window, start)
    if match is None:
        return None
    head, body, length = window[start : start + 4].decode().upper(), 0, 4
    for place in range(start + 4, match.end()):
        character = window[place : place + 1]
        if not character.isalnum():
            continue
        length += 1
        body = int(f"{body}{int(character, 36)}") % 97  # ISO 7064, MOD 97-10: letters count from A = 10
        if length < 15 or int(f"{body}{int(head[0], 36)}{int(head[1], 36)}{head[2:]}") % 97 != 1:
            continue
        end = place + 1
        if stands_alone(window, start, end) and stdnum.iban.is_valid(window[start:end].decode()):
            return end
    return None


def national_id(window: bytes, start: int) -> int | None:
    """The end of the national identity number that begins at `start`, or None. NATIONAL_IDS says which are known."""
    for _, pattern, is_valid in _NATIONAL_IDS:
        match = pattern.match(window, start)
        if match is None or not stands_alone(window, start, match.end()):
            continue
        if is_valid(match.group().decode()):
            return match.end()
    return None


def _is_united_states(number: str) -> bool:
    return stdnum.us.ssn.is_valid(number.replace(" ", "-"))


def _is_united_kingdom(number: str) -> bool:
    """HM Revenue and Customs, National Insurance Manual NIM39110: prefixes that are not used."""
    return number[:2] not in {"BG", "GB", "KN", "NK", "NT", "TN", "ZZ"}


NATIONAL_IDS: dict[str, tuple[bytes, Callable[[str], bool]]] = {
    "US social security number": (rb"\b[0-9]{3}(?:-[0-9]{2}-| [0-9]{2} )[0-9]{4}\b", _is_united_states),
    "GB national insurance number": (
        rb"\b[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z][ -]?[0-9]{2}[ -]?[0-9]{2}[ -]?[0-9]{2}[ -]?[A-D]\b",
        _is_united_kingdom,
    ),
    "FR numéro de sécurité sociale": (
        rb"\b[12] ?[0-9]{2} ?[0-9]{2} ?[0-9][0-9AB] ?[0-9]{3} ?[0-9]{3}[ -]?[0-9]{2}\b",
        stdnum.fr.nir.is_valid,
    ),
    "ES documento nacional de identidad, NIE": (
        rb"\b(?:[0-9]{8}|[XYZ]-?[0-9]{7})[ -]?[A-HJ-NP-TV-Z]\b",
        stdnum.es.nif.is_valid,
    ),
    "IT codice fiscale": (
        rb"\b[A-Za-z]{6}[0-9L-Vl-v]{2}[A-Ea-eHhL-Ml-mPpR-Tr-t][0-9L-Vl-v]{2}[A-Za-z][0-9L-Vl-v]{3}[A-Za-z]\b",
        stdnum.it.codicefiscale.is_valid,
    ),
    "BR cadastro de pessoas físicas": (rb"\b[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}\b", stdnum.br.cpf.is_valid),
}
"""What is known, by country: its shape, and what must hold beside it."""
_NATIONAL_IDS = tuple((name, re2.compile(shape), is_valid) for name, (shape, is_valid) in NATIONAL_IDS.items())
