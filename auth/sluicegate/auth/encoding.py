"""Strict readers of what strangers send: canonical base64url, and JSON without its loose ends.

Two texts that mean the same are two keys for a cache or a list of withdrawn tokens, and two parsers that
read one text differently are a hole. So there is one accepted spelling of everything.
"""

from __future__ import annotations

import binascii
import json
import math
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import NoReturn

MAX_DEPTH = 8


def encode_base64url(data: bytes) -> str:
    """Unpadded base64url (RFC 7515, section 2)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64url(text: str) -> bytes:
    """The bytes of unpadded base64url. Raises ValueError unless `text` is their canonical form.

    Python's decoder skips foreign characters and ignores trailing bits; encoding again and comparing refuses
    both.
    """
    try:
        data = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("not base64url") from error
    if encode_base64url(data) != text:
        raise ValueError("not the canonical base64url form")
    return data


def parse_json(raw: bytes) -> object:
    """The value of a UTF-8 JSON text (RFC 8259). Raises ValueError for what parsers read differently.

    Refused: other encodings, a byte order mark, duplicate members, NaN and Infinity, numbers that are too large
    for a double or have thousands of digits, lone surrogates, and more than `MAX_DEPTH` levels.
    """
    try:
        value: object = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_object_of_pairs,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    _check_value(value, MAX_DEPTH)
    return value


def _object_of_pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member appears twice")
    return members


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _check_value(value: object, levels_left: int) -> None:
    if isinstance(value, str):
        value.encode("utf-8")  # a lone surrogate has no UTF-8 form: UnicodeEncodeError is a ValueError
    elif isinstance(value, dict | list):
        if levels_left == 0:
            raise ValueError("nested too deeply")
        if isinstance(value, dict):
            for name in value:
                _check_value(name, levels_left)
        for item in value.values() if isinstance(value, dict) else value:
            _check_value(item, levels_left - 1)
