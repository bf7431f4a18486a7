"""Which scope each method needs, read from the protos' `required_scope` option.

A new method that forgets its scope is refused here, at run time, and fails a test, at build time.
"""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from google.rpc import error_details_pb2, status_pb2

from sluicegate.v1 import (
    access_service_pb2,
    engine_service_pb2,
    finding_service_pb2,
    generation_service_pb2,
    model_service_pb2,
    options_pb2,
    provenance_service_pb2,
    release_service_pb2,
    withdrawal_service_pb2,
)

REFLECTION_SERVICE = "grpc.reflection.v1alpha.ServerReflection"
EXEMPT_SERVICES = frozenset({"grpc.health.v1.Health", REFLECTION_SERVICE})
"""Standard services that need no token: health decides by itself what it tells whom, reflection is public."""


def caller_services() -> list[ServiceDescriptor]:
    """Descriptors of the services of package sluicegate.v1 that the callers' listener has."""
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


def operator_services() -> list[ServiceDescriptor]:
    """Descriptors of the services that only the operators' listener has."""
    return list(engine_service_pb2.DESCRIPTOR.services_by_name.values())


def own_services() -> list[ServiceDescriptor]:
    """Descriptors of every service of package sluicegate.v1, whatever listener has it."""
    return caller_services() + operator_services()


def required_scopes(services: Iterable[ServiceDescriptor]) -> dict[str, str]:
    """Scope template by method path `/package.Service/Method`; methods without one are left out."""
    templates = {}
    for service in services:
        for method in service.methods:
            if template := method.GetOptions().Extensions[options_pb2.required_scope]:
                templates[f"/{service.full_name}/{method.name}"] = template
    return templates


def pool(services: Iterable[str]) -> descriptor_pool.DescriptorPool:
    """The descriptors that reflection may show: of these services, by their full names, and of what they use.

    No service's own file names an error's status or its details; clients that show them look them up by reflection.
    """
    shown, everything = descriptor_pool.DescriptorPool(), descriptor_pool.Default()

    def add(file: FileDescriptor) -> None:
        for dependency in file.dependencies:
            add(dependency)
        shown.AddSerializedFile(file.serialized_pb)

    add(status_pb2.DESCRIPTOR)
    add(error_details_pb2.DESCRIPTOR)
    for service in services:
        add(everything.FindServiceByName(service).file)
    return shown
