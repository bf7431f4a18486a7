"""E-mail and IP addresses."""

from __future__ import annotations

import ipaddress

import re2

from sluicegate.server.signals.pii.borders import stands_alone

LONGEST_ENTITY = 96
"""Characters. What is longer is not looked for: only so can a stream be judged with a bounded memory."""
EMAIL_START = rb"\b[0-9A-Za-z_][0-9A-Za-z._%+'-]{0,63}@[0-9A-Za-z][0-9A-Za-z-]{0,62}\.[0-9A-Za-z]"
EMAIL_RUN = rb"\b[0-9A-Za-z_][0-9A-Za-z._%+'-]{0,63}@[0-9A-Za-z][0-9A-Za-z.-]*"
"""An e-mail address with all that may follow in its place, however long."""
IPV4 = rb"\b[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\b"
IPV6 = rb"(?:\b[0-9A-Fa-f]{1,4}|:):(?:[0-9A-Fa-f]{0,4}:){0,6}(?:[0-9A-Fa-f]{1,4}|(?:[0-9]{1,3}\.){3}[0-9]{1,3})\b"

_EMAIL = re2.compile(rb"([0-9A-Za-z_][0-9A-Za-z._%+'-]{0,63})@([0-9A-Za-z][0-9A-Za-z.-]{2,94})")
_TOP_LEVEL = re2.compile(rb"[A-Za-z]{2,24}|[Xx][Nn]--[0-9A-Za-z-]{2,59}")
_IPV4 = re2.compile(IPV4)
_IPV6 = re2.compile(IPV6)
_VERSION = re2.compile(rb"(?i)\b(?:version|release|firmware|build|section|chapter|clause|ver|rev|sec|v)\b[ .:#]{0,3}$")
"""What makes a version or a paragraph of four numbers."""
_WORD_BEFORE = 16


def email(window: bytes, start: int) -> int | None:
    """The end of the e-mail address that begins at `start`, or None."""
    match = _EMAIL.match(window, start)
    if match is None:
        return None
    local, domain = match.group(1), match.group(2)
    after = window[match.end() : match.end() + 1]
    if after.isalnum() or after in (b"-", b"@"):  # a longer name, or a chain of them
        return None
    domain = domain.rstrip(b".-")
    labels = domain.split(b".")
    fits = all(1 <= len(label) <= 63 and label[:1].isalnum() and label[-1:].isalnum() for label in labels)
    if not fits or len(labels) < 2 or not _TOP_LEVEL.fullmatch(labels[-1]):
        return None
    if local.endswith(b".") or b".." in local or len(local) + 1 + len(domain) > LONGEST_ENTITY:
        return None
    return start + len(local) + 1 + len(domain)


def ip_address(window: bytes, start: int) -> int | None:
    """The end of the address of a machine that begins at `start`, or None.

    Addresses that are nobody's are left out: loopback, unspecified, multicast, reserved. So are four numbers after
    a word such as version.
    """
    for pattern in (_IPV4, _IPV6):
        match = pattern.match(window, start)
        if match is None or not stands_alone(window, start, match.end()):
            continue
        if window[match.end() : match.end() + 1] == b":" and pattern is _IPV6:
            continue
        try:
            address = ipaddress.ip_address(match.group().decode("ascii"))
        except ValueError:
            continue
        if address.is_loopback or address.is_unspecified or address.is_multicast:
            return None
        if address.version == 4:
            is_version = _VERSION.search(window[max(start - _WORD_BEFORE, 0) : start]) is not None
            return None if address.is_reserved or is_version else match.end()
        return match.end()
    return None
