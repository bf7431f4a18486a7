"""What is done with an input of each kind: read as the server reads it, and if it was taken, used.

Each check gives whether the input was taken. Whatever it raises is a finding: refusals are caught here, and only those
that the reader's docstring names.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from sluicegate.auth import (
    ALGORITHMS,
    AccessRequest,
    AuthenticationError,
    KeySetError,
    Peer,
    Policy,
    PolicyError,
    Principal,
    SigningKey,
    TokenVerifier,
    TrustedIssuer,
    TrustRoot,
    VerificationKey,
    anonymous,
    bearer,
    parse_key_set,
)
from sluicegate.auth.encoding import encode_base64url
from sluicegate.auth.loading import RELEASE_FILE, parse_draft
from sluicegate.evidence import NO_EVIDENCE, EvidenceError, encode, parse_any
from sluicegate.server.audit import AuditLogDamaged, Verification, parse_head
from sluicegate.server.audit.form import parse_line
from sluicegate.server.audit.recovery import recover
from sluicegate.server.engine.messages import Command, StepEvents, read
from sluicegate.server.errors import CallRefused
from sluicegate.server.rpc import requests
from sluicegate.server.rpc.forwarded import forwarded_address, forwarded_thumbprint
from sluicegate.server.rpc.methods import own_services
from sluicegate.server.rpc.validation import validate
from sluicegate.v1.access_service_pb2 import CheckAccessRequest
from sluicegate.v1.generation_service_pb2 import GenerateRequest, ScoreRequest, StreamGenerateRequest

ISSUER = "https://issuer.example"
AUDIENCE = "sluicegate.example"
NOW = 1_770_000_000
"""2026-02-02T02:40:00Z, when the seeds are good."""
_PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
"""Known to all, so that what is signed is the same in each run."""
KEY = SigningKey("fuzz", "EdDSA", _PRIVATE)
PUBLIC_KEY = encode_base64url(_PRIVATE.public_key().public_bytes_raw())
_SIGNERS = {name: Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number, name in enumerate(("a", "b"))}
TRUST = TrustRoot("example", {name: key.public_key() for name, key in _SIGNERS.items()})
PEER = Peer(None)
SEPARATOR = b"\n---\n"
"""Between the files of a policy: release.yaml first."""
MOST_AGREEMENTS = 3
LOG_FILE = "audit-20260120T070000Z-000001.jsonl"
LOG_HEAD = parse_head(
    "8b8f5a3560de58ff9caf9e9beaef8e31:10:f24b6997783f1f21ae78a2ec49ec79feaea154b7de603610db87d06f24577b54"
)
"""The last entry of the log among the seeds."""
REQUESTS: Mapping[str, type[Message]] = {
    method.input_type.name: GetMessageClass(method.input_type)
    for service in own_services()
    for method in service.methods
}


class Keys:
    """The keys of the one issuer."""

    is_stale = False

    def find(self, key_id: str) -> VerificationKey | None:
        return _KEYS.get(key_id)

    def request_refresh(self) -> None:
        """Nothing is fetched."""


_KEYS = parse_key_set(msgspec.json.encode({"keys": [KEY.public_jwk()]}))


def token(data: bytes) -> bool:
    """Octets as the metadata has them, behind `Bearer`."""
    return _admitted(data) is not None


def claims(data: bytes) -> bool:
    """The payload of a token that a trusted issuer has signed. Who is admitted is decided about."""
    header = encode_base64url(msgspec.json.encode({"alg": "EdDSA", "typ": "at+jwt", "kid": KEY.key_id}))
    signed = f"{header}.{encode_base64url(data)}"
    principal = _admitted(f"{signed}.{encode_base64url(_PRIVATE.sign(signed.encode()))}".encode())
    if principal is None:
        return False
    assert principal.issuer == ISSUER
    assert principal.expires_at > NOW
    return True


def _admitted(data: bytes) -> Principal | None:
    verifier = TokenVerifier([TrustedIssuer(ISSUER, AUDIENCE, ALGORITHMS, Keys())], clock=lambda: NOW)
    try:
        text = bearer([b"Bearer " + data])
        principal = verifier.verify(text, PEER)
    except AuthenticationError:
        return None
    assert verifier.verify(text, PEER) == principal, "a token that is remembered is another caller"
    return principal


def key_set(data: bytes) -> bool:
    """What an issuer publishes."""
    try:
        return bool(parse_key_set(data))
    except KeySetError:
        return False


def policy(data: bytes) -> bool:
    """Policy files. A policy that is taken decides every call."""
    release, *agreements = data.split(SEPARATOR, MOST_AGREEMENTS)
    files = {f"agreements/{number}.yaml": agreement for number, agreement in enumerate(agreements)}
    try:
        draft = parse_draft({RELEASE_FILE: release, **files})
    except PolicyError:
        return False
    assert all(str(problem) for problem in draft.signature_problems(TRUST, NO_EVIDENCE))
    _decides(draft.policy(Path("/policy"), NO_EVIDENCE, is_signed=False))
    return True


def _decides(policy: Policy) -> None:
    named = [client for agreement in policy.agreements.values() for client in agreement.clients]
    callers = [
        anonymous(),
        *(_caller(client.issuer, client.client) for client in (*named, *policy.plan.internal.clients)),
    ]
    for caller in callers[:8]:
        for model in [*policy.models, "none"][:4]:
            for action in ("generate", "score"):
                policy.decide(caller, AccessRequest(action, model), PEER, NOW)
        policy.visible_models(caller, NOW)


def _caller(issuer: str, client: str) -> Principal:
    return Principal(
        issuer=issuer,
        subject="s",
        client_id=client,
        token_id="t",
        key_id="k",
        scopes=frozenset(),
        authorization_details=(),
        issued_at=NOW,
        expires_at=NOW + 60,
        authenticated_at=None,
        acr=None,
        certificate_thumbprint=None,
    )


def evidence(data: bytes) -> bool:
    """An evidence file. What is taken has one spelling."""
    try:
        found = parse_any(data)
    except EvidenceError:
        return False
    assert encode(found) == data
    return True


def request(data: bytes) -> bool:
    """A request of any method: its name, a line end, and the message on the wire."""
    name, _, wire = data.partition(b"\n")
    kind = REQUESTS.get(name.decode("ascii", "replace"))
    if kind is None:
        return False
    try:
        message = kind.FromString(wire)
        validate(message)
        _translate(message)
    except (DecodeError, CallRefused):
        return False
    return True


def _translate(message: Message) -> None:
    match message:
        case GenerateRequest():
            requests.generation(message)
        case StreamGenerateRequest():
            requests.stream(message)
        case ScoreRequest():
            requests.score(message)
        case CheckAccessRequest():
            requests.check(message)


def command(data: bytes) -> bool:
    """A message to the engine."""
    return _is_message(_COMMANDS, data)


def events(data: bytes) -> bool:
    """A message from the engine."""
    return _is_message(_EVENTS, data)


_COMMANDS: msgspec.msgpack.Decoder[object] = msgspec.msgpack.Decoder(Command)
_EVENTS: msgspec.msgpack.Decoder[object] = msgspec.msgpack.Decoder(StepEvents)


def _is_message(decoder: msgspec.msgpack.Decoder[object], data: bytes) -> bool:
    try:
        message = read(decoder, data)
    except msgspec.DecodeError:
        return False
    assert read(decoder, msgspec.msgpack.encode(message)) == message
    return True


def audit_line(data: bytes) -> bool:
    """A line of an audit log. What is taken has one spelling."""
    try:
        record = parse_line(data)
    except ValueError:
        return False
    assert record.line() == data + b"\n"
    assert rfc8785.dumps(msgspec.json.decode(record.raw)) == record.raw
    return True


def audit_log(data: bytes) -> bool:
    """A file of a log whose key and newest head are known: verified, and gone on with by a server that starts.

    It is taken only if all that was anchored is as it was.
    """
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        (directory / LOG_FILE).write_bytes(data)
        verification = Verification([directory], public_keys=[PUBLIC_KEY], anchors=[LOG_HEAD])
        verification.read_all()
        is_good = not verification.problems()
        try:
            recover(directory, LOG_HEAD)
        except AuditLogDamaged:
            assert not is_good, "what verifies, a server must go on with"
    return is_good


def forwarded(data: bytes) -> bool:
    """What a trusted proxy says of its caller: one header a line, addresses first."""
    addresses, _, certificates = data.decode("latin-1").partition("\n")
    try:
        forwarded_address([addresses], ())
        thumbprint = forwarded_thumbprint([certificates], lambda thumbprint, names: False)
    except CallRefused:
        return False
    return thumbprint is not None
