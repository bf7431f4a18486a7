"""Calls as they were recorded, one JSON object a line, in the form that docs/policy.md describes.

A record tells no more of a token than a log may keep. What it leaves out is taken to have just met the terms of the
agreement that the call came under, as it must have when it was made.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainValidator, ValidationError, model_validator

from sluicegate.auth.agreements import Agreement
from sluicegate.auth.claiming import best_claim, claims_of
from sluicegate.auth.encoding import parse_json
from sluicegate.auth.errors import RecordError
from sluicegate.auth.fields import Listing, ModelId, Name, Slug, Terms
from sluicegate.auth.grant import AccessRequest
from sluicegate.auth.policy import Policy
from sluicegate.auth.principal import AuthorizationDetail, Peer, Principal, anonymous

MAX_RECORD_BYTES = 16 * 1024

_BOUND = "A" * 43
_DEFAULT_LIFETIME_SECONDS = 60


def _address(value: object) -> IPv4Address | IPv6Address:
    if not isinstance(value, str):
        raise ValueError("write an address as 192.0.2.7")
    return ip_address(value)


def _seconds(value: object) -> object:
    return float(value) if type(value) is int else value


class RecordedCall(Terms):
    """One call: who made it, what was asked, from where and when."""

    at: Annotated[float, BeforeValidator(_seconds), Field(ge=0, le=253_402_300_799)]
    """Unix seconds."""
    issuer: Name | None = None
    client: Name | None = None
    """By name; a pseudonym is the name of a client that no policy knows. None, with `issuer`: without a token."""
    scopes: Listing[Name] = ()
    agreement: Slug | None = None
    """The one that the token named."""
    action: Literal["generate", "score"]
    model: ModelId
    purpose: Name | None = None
    logprobs: bool = False
    greedy: bool = False
    token_bytes: bool = False
    address: Annotated[IPv4Address | IPv6Address, PlainValidator(_address)] | None = None
    network: Annotated[int, Field(ge=0)] | None = None
    """Without an address: which network of its agreement the call came from, counted from 0."""
    token_lifetime: Annotated[int, Field(ge=1)] | None = None
    acr: Name | None = None
    authenticated_ago: Annotated[int, Field(ge=0)] | None = None
    bound: bool = True

    @model_validator(mode="after")
    def _client_and_issuer(self) -> RecordedCall:
        if (self.issuer is None) != (self.client is None):
            raise ValueError("`issuer` and `client` stand together, or neither does")
        return self

    @property
    def request(self) -> AccessRequest:
        return AccessRequest(self.action, self.model, self.purpose, self.logprobs, self.greedy, self.token_bytes)

    def caller(self, before: Policy) -> tuple[Principal, Peer]:
        """The caller and its connection; gaps filled by the terms of its agreement in the policy before the change."""
        if self.issuer is None or self.client is None:
            return anonymous(), Peer(self.address)
        principal = self._principal(None)
        claim = best_claim(claims_of(before, principal), self.request)
        terms = claim.agreement if claim is not None else None
        return self._principal(terms), Peer(self.address or self._network_address(terms), _BOUND)

    def _principal(self, terms: Agreement | None) -> Principal:
        token = terms.token if terms is not None else None
        lifetime = self.token_lifetime or (token and token.max_lifetime) or _DEFAULT_LIFETIME_SECONDS
        ago = self.authenticated_ago if self.authenticated_ago is not None else (token and token.max_auth_age) or 0
        acr = self.acr or (token.acr[0] if token is not None and token.acr else None)
        named = self.agreement
        details = (AuthorizationDetail(named, None, None, None, {}),) if named is not None else ()
        return Principal(
            issuer=self.issuer or "",
            subject="recorded",
            client_id=self.client or "",
            token_id="recorded",  # noqa: S106
            key_id="recorded",
            scopes=frozenset(self.scopes),
            authorization_details=details,
            issued_at=int(self.at),
            expires_at=int(self.at) + lifetime,
            authenticated_at=max(0, math.ceil(self.at) - ago),
            acr=acr,
            certificate_thumbprint=_BOUND if self.bound else None,
        )

    def _network_address(self, terms: Agreement | None) -> IPv4Address | IPv6Address | None:
        networks = terms.networks if terms is not None else ()
        index = self.network if self.network is not None else 0
        return networks[index][0] if index < len(networks) else None


def read_records(lines: Iterable[bytes]) -> Iterator[RecordedCall]:
    """The calls of these lines, empty ones passed over. Raises RecordError for the first that is no record."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield _record(line)
        except (ValueError, RecordError) as error:
            raise RecordError(f"line {number}: {error}") from error


def _record(line: bytes) -> RecordedCall:
    if len(line) > MAX_RECORD_BYTES:
        raise RecordError(f"is longer than {MAX_RECORD_BYTES} bytes")
    members = parse_json(line)
    try:
        return RecordedCall.model_validate(members)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        text = first["msg"].removeprefix("Value error, ")
        raise RecordError(f"{place}: {text}" if place else text) from error
