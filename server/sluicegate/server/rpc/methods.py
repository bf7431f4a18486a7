"""Which scope each method needs, read from the protos' `required_scope` option.

A new method that forgets its scope is refused here, at run time, and fails a test, at build time.
"""

from __future__ import annotations

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor

from sluicegate.v1 import (
    access_service_pb2,
    finding_service_pb2,
    generation_service_pb2,
    model_service_pb2,
    options_pb2,
    provenance_service_pb2,
    release_service_pb2,
    withdrawal_service_pb2,
)

EXEMPT_SERVICES = frozenset({"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"})
"""Standard services that need no token: health decides by itself what it tells whom, reflection is public."""


def own_services() -> list[ServiceDescriptor]:
    """Descriptors of every service of package sluicegate.v1 that this server serves."""
    files = (
        access_service_pb2,
        finding_service_pb2,
        generation_service_pb2,
        model_service_pb2,
        provenance_service_pb2,
        release_service_pb2,
        withdrawal_service_pb2,
    )
    return [service for file in files for service in file.DESCRIPTOR.services_by_name.values()]


def required_scopes() -> dict[str, str]:
    """Scope template by method path `/package.Service/Method`; methods without one are left out."""
    templates = {}
    for service in own_services():
        for method in service.methods:
            if template := method.GetOptions().Extensions[options_pb2.required_scope]:
                templates[f"/{service.full_name}/{method.name}"] = template
    return templates


def pool() -> descriptor_pool.DescriptorPool:
    """The descriptors that reflection serves."""
    return descriptor_pool.Default()
