"""What must hold of the protos: read from the committed image and from the stubs that come with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from http_bindings import http_bindings

from sluicegate.auth import Reason
from sluicegate.auth.scopes import AUTHENTICATED, TEMPLATES
from sluicegate.server.rpc.methods import own_services, required_scopes
from sluicegate.v1 import reason_pb2

PROTOS = Path(__file__).resolve().parents[2] / "protos"
SERVICES = {service.full_name: service for service in own_services()}
METHODS = [f"/{name}/{method.name}" for name, service in SERVICES.items() for method in service.methods]
SCOPES = required_scopes(SERVICES.values())
METHODS_OF_A_MODEL = [method for method, template in SCOPES.items() if "{model}" in template]


BINDINGS = http_bindings()
OPERATORS = "operators have gRPC; a page is no place for their tokens"
WITHOUT_A_PATH = {
    "sluicegate.v1.EngineService.CancelRequest": OPERATORS,
    "sluicegate.v1.EngineService.LoadModel": OPERATORS,
    "sluicegate.v1.EngineService.UnloadModel": OPERATORS,
    "sluicegate.v1.EngineService.Drain": OPERATORS,
    "sluicegate.v1.EngineService.GetLoad": OPERATORS,
    "sluicegate.v1.EngineService.ListActiveRequests": OPERATORS,
    "sluicegate.v1.FindingService.ListFindingDuties": OPERATORS,
    "sluicegate.v1.FindingService.ReviewFinding": OPERATORS,
    "sluicegate.v1.GenerationService.CancelGeneration": "asked of one replica; who reads over HTTP closes the stream",
    "sluicegate.v1.ReleaseService.GetReleasePlan": OPERATORS,
    "sluicegate.v1.ReleaseService.ListStageTransitions": OPERATORS,
    "sluicegate.v1.ReleaseService.SimulatePolicy": OPERATORS,
    "sluicegate.v1.WithdrawalService.CreateWithdrawal": OPERATORS,
    "sluicegate.v1.WithdrawalService.LiftWithdrawal": OPERATORS,
    "sluicegate.v1.WithdrawalService.ListWithdrawals": OPERATORS,
}
"""Methods that are not called over HTTP, and why."""


def own_files() -> list[FileDescriptorProto]:
    image = FileDescriptorSet.FromString((PROTOS / "image.binpb").read_bytes())
    return [file for file in image.file if file.package == "sluicegate.v1"]


# Field numbers in descriptor.proto, as the paths of SourceCodeInfo are made of: a file's messages, enums, services and
# extensions; a message's fields, nested messages, nested enums and oneofs; an enum's values; a service's methods.
FILE_MESSAGE, FILE_ENUM, FILE_SERVICE, FILE_EXTENSION = 4, 5, 6, 7
MESSAGE_FIELD, MESSAGE_NESTED, MESSAGE_ENUM, MESSAGE_ONEOF = 2, 3, 4, 8
ENUM_VALUE = 2
SERVICE_METHOD = 2

Location = tuple[int, ...]


def elements(file: FileDescriptorProto) -> Iterator[tuple[Location, str]]:
    """Path and name of everything in a file that a reader may look up."""
    for index, message in enumerate(file.message_type):
        yield from message_elements((FILE_MESSAGE, index), message.name, message)
    for index, enum in enumerate(file.enum_type):
        yield (FILE_ENUM, index), enum.name
        for inner, value in enumerate(enum.value):
            yield (FILE_ENUM, index, ENUM_VALUE, inner), f"{enum.name}.{value.name}"
    for index, service in enumerate(file.service):
        yield (FILE_SERVICE, index), service.name
        for inner, method in enumerate(service.method):
            yield (FILE_SERVICE, index, SERVICE_METHOD, inner), f"{service.name}.{method.name}"
    for index, extension in enumerate(file.extension):
        yield (FILE_EXTENSION, index), extension.name


def message_elements(path: Location, name: str, message: DescriptorProto) -> Iterator[tuple[Location, str]]:
    if message.options.map_entry:
        return
    yield path, name
    for index, field in enumerate(message.field):
        yield (*path, MESSAGE_FIELD, index), f"{name}.{field.name}"
    for index, oneof in enumerate(message.oneof_decl):
        if not oneof.name.startswith("_"):  # one that protoc made for an optional field
            yield (*path, MESSAGE_ONEOF, index), f"{name}.{oneof.name}"
    for index, nested in enumerate(message.nested_type):
        yield from message_elements((*path, MESSAGE_NESTED, index), f"{name}.{nested.name}", nested)
    for index, enum in enumerate(message.enum_type):
        yield (*path, MESSAGE_ENUM, index), f"{name}.{enum.name}"
        for inner, value in enumerate(enum.value):
            yield (*path, MESSAGE_ENUM, index, ENUM_VALUE, inner), f"{name}.{enum.name}.{value.name}"


@pytest.mark.parametrize("file", own_files(), ids=lambda file: file.name)
def test_everything_in_a_proto_has_a_comment(file: FileDescriptorProto) -> None:
    commented = {
        tuple(location.path) for location in file.source_code_info.location if location.leading_comments.strip()
    }

    bare = [name for path, name in elements(file) if path not in commented]

    assert not bare


def test_the_image_holds_the_protos_that_are_there() -> None:
    on_disk = {path.relative_to(PROTOS).as_posix() for path in PROTOS.glob("sluicegate/v1/*.proto")}

    assert {file.name for file in own_files()} == on_disk


def test_every_service_of_the_protos_is_known_to_the_server() -> None:
    declared = {f"{file.package}.{service.name}" for file in own_files() for service in file.service}

    assert declared == set(SERVICES)


@pytest.mark.parametrize("method", METHODS)
def test_method_declares_a_scope_that_is_known(method: str) -> None:
    template = SCOPES.get(method)

    assert template in {*TEMPLATES, AUTHENTICATED}


@pytest.mark.parametrize("method", METHODS_OF_A_MODEL)
def test_method_whose_scope_names_the_model_has_it_in_the_request(method: str) -> None:
    _, service, name = method.split("/")

    model = SERVICES[service].methods_by_name[name].input_type.fields_by_name["model"]

    assert model.type == model.TYPE_STRING


@pytest.mark.parametrize("method", METHODS)
def test_method_has_a_request_and_a_response_of_its_own(method: str) -> None:
    _, service, name = method.split("/")
    descriptor = SERVICES[service].methods_by_name[name]

    assert (descriptor.input_type.name, descriptor.output_type.name) == (f"{name}Request", f"{name}Response")


def test_reasons_of_the_wire_and_of_the_domain_are_the_same() -> None:
    wire = {name.removeprefix("REASON_") for name in reason_pb2.Reason.keys()}  # noqa: SIM118 (an enum, no dict)

    assert wire - {"UNSPECIFIED"} == {reason.value for reason in Reason}


def test_every_method_has_a_path_for_http_or_a_reason_for_none() -> None:
    every = {method.full_name for service in SERVICES.values() for method in service.methods}

    assert BINDINGS.keys() | WITHOUT_A_PATH.keys() == every
    assert not BINDINGS.keys() & WITHOUT_A_PATH.keys()


def test_no_two_methods_have_the_same_path() -> None:
    assert len({(binding.verb, binding.path) for binding in BINDINGS.values()}) == len(BINDINGS)


@pytest.mark.parametrize("method", BINDINGS)
def test_a_path_names_fields_of_the_request_and_reads_with_get_only(method: str) -> None:
    service, _, name = method.rpartition(".")
    request = SERVICES[service].methods_by_name[name].input_type
    verb, path, body = BINDINGS[method]

    named = re.findall(r"{(\w+)}", path)

    assert path.startswith("/v1/")
    assert {request.fields_by_name[field].type for field in named} <= {FieldDescriptor.TYPE_STRING}
    assert (verb, body) == (("GET", "") if name.startswith(("Get", "List", "Watch")) else ("POST", "*"))


def test_the_methods_with_paths_are_those_that_the_proxy_translates() -> None:
    envoy = (PROTOS.parent / "helm/sluicegate/files/envoy/envoy.yaml").read_text()

    translated = set(re.findall(r"^ +- (sluicegate\.v1\.\w+)$", envoy, re.MULTILINE))
    routed = re.search(r"sluicegate\\.v1\\.\((.+)\)Service/", envoy)

    assert translated == {method.rpartition(".")[0] for method in BINDINGS}
    assert routed is not None
    assert {f"sluicegate.v1.{name}Service" for name in routed[1].split("|")} == translated
