"""The paths of the API's methods over HTTP, as the protos give them."""

from __future__ import annotations

from typing import NamedTuple

from google.api import annotations_pb2

from sluicegate.server.rpc.methods import own_services


class Binding(NamedTuple):
    """What is sent: the verb, the path with fields of the request in braces, and what the body is; "*": all others."""

    verb: str
    path: str
    body: str


def http_bindings() -> dict[str, Binding]:
    """By full name of the method, those that have one."""
    found = {}
    for service in own_services():
        for method in service.methods:
            options = method.GetOptions()
            if options.HasExtension(annotations_pb2.http):
                rule = options.Extensions[annotations_pb2.http]
                kind = rule.WhichOneof("pattern")
                assert kind is not None, "a rule has a pattern"
                assert not rule.additional_bindings, "one path is enough"
                found[method.full_name] = Binding(kind.upper(), getattr(rule, kind), rule.body)
    return found
