"""The docs name all that there is, and nothing that there is not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel

from sluicegate.auth import Reason
from sluicegate.auth.agreements import Agreement
from sluicegate.auth.release import ReleasePlan
from sluicegate.auth.scopes import AUTHENTICATED, TEMPLATES
from sluicegate.server.config import Settings
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.rpc.methods import own_services
from sluicegate.server.settings_file import load_settings

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
METRIC = re.compile(r"^\| `((?:sluicegate|gen_ai_server|grpc_server)_\w+)` \|", re.MULTILINE)
RUNTIME_METRICS = ("process_", "python_")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|Users|root|work)/\w")
FOLDERS = ("auth", "bench", "client", "docs", "helm", "protos", "server", "tests", "tools")
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])


@cache
def text(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


@cache
def quoted(name: str) -> frozenset[str]:
    """What stands in backticks on a page, code blocks left out."""
    return frozenset(re.findall(r"`([^`\n]+)`", FENCE.sub("", text(name))))


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of a model's fields: `[]` for each entry of a list, `<id>` for each key of a mapping."""
    for name, field in model.model_fields.items():
        dotted = f"{prefix}{field.alias or name}"
        yield dotted
        yield from nested_fields(field.annotation, dotted)


def nested_fields(annotation: Any, dotted: str) -> Iterator[str]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from fields(annotation, f"{dotted}.")
        return
    origin = get_origin(annotation)
    if isinstance(origin, type) and issubclass(origin, tuple):
        dotted += "[]"
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        dotted += ".<id>"
    for argument in get_args(annotation):
        yield from nested_fields(argument, dotted)


SETTINGS_AND_SECTIONS = sorted(set(fields(Settings)))
SETTINGS = [name for name in SETTINGS_AND_SECTIONS if not any(x.startswith(f"{name}.") for x in SETTINGS_AND_SECTIONS)]
POLICY_FIELDS = sorted({dotted.rpartition(".")[2] for model in (ReleasePlan, Agreement) for dotted in fields(model)})
RPCS = [f"{service.name}.{method.name}" for service in own_services() for method in service.methods]


def exported() -> list[str]:
    """Names as Prometheus reads them, without the suffixes of a histogram's parts."""
    suffixes = {"counter": "_total", "info": "_info"}
    families = Metrics().registry.collect()
    return sorted(
        family.name + suffixes.get(family.type, "")
        for family in families
        if not family.name.startswith(RUNTIME_METRICS)
    )


def test_the_walk_finds_settings_in_sections_lists_and_mappings() -> None:
    assert {"listen", "tls.key", "policy.signatures.threshold"} <= set(SETTINGS)
    assert {"tokens.issuers[].keys.url", "models.<id>.slots"} <= set(SETTINGS)


@pytest.mark.parametrize("setting", SETTINGS)
def test_setting_is_in_configuration_md(setting: str) -> None:
    assert setting in quoted("configuration.md")


def test_configuration_md_has_no_setting_that_is_gone() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|", text("configuration.md"), re.MULTILINE)

    assert sorted(set(rows) - set(SETTINGS_AND_SECTIONS)) == []


def test_example_of_configuration_md_is_accepted(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```yaml\n(.*?)^```", text("configuration.md"), re.DOTALL | re.MULTILINE)
    (tmp_path / "sluicegate.yaml").write_text(example)

    settings = load_settings(tmp_path / "sluicegate.yaml")

    assert settings.policy.directory == tmp_path / "policy"


@pytest.mark.parametrize("metric", exported())
def test_metric_is_in_metrics_md(metric: str) -> None:
    assert metric in quoted("metrics.md")


def test_metrics_md_has_no_metric_that_is_gone() -> None:
    assert set(METRIC.findall(text("metrics.md"))) <= set(exported())


@pytest.mark.parametrize("rpc", RPCS)
def test_rpc_is_in_api_md(rpc: str) -> None:
    assert rpc in quoted("api.md")


def test_api_md_has_no_rpc_that_is_gone() -> None:
    rows = re.findall(r"^\| `(\w+Service\.\w+)` \|", text("api.md"), re.MULTILINE)

    assert sorted(rows) == sorted(RPCS)


@pytest.mark.parametrize("scope", [*TEMPLATES, AUTHENTICATED])
def test_scope_is_in_access_md(scope: str) -> None:
    assert scope in quoted("access.md")


@pytest.mark.parametrize("reason", list(Reason))
def test_reason_is_in_access_md(reason: Reason) -> None:
    assert reason.value in quoted("access.md")


@pytest.mark.parametrize("field", POLICY_FIELDS)
def test_policy_field_is_in_policy_md(field: str) -> None:
    words = {word for phrase in quoted("policy.md") for word in re.findall(r"\w+", phrase)}
    keys = {key for block in FENCE.findall(text("policy.md")) for key in re.findall(r"(\w+):", block)}

    assert field in words | keys


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_of_a_page_lead_somewhere(page: Path) -> None:
    targets = LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    relative = [target.partition("#")[0] for target in targets if "://" not in target and not target.startswith("#")]

    assert [target for target in relative if not (page.parent / target).exists()] == []


def test_no_text_names_a_place_on_somebodys_machine() -> None:
    sources = [
        path
        for folder in FOLDERS
        for kind in ("py", "yaml", "yml", "sh")
        for path in ROOT.glob(f"{folder}/**/*.{kind}")
    ]
    top = [path for path in ROOT.iterdir() if path.is_file()]

    found = [
        path
        for path in (*PAGES, *sources, *top)
        if MACHINE_PATH.search(path.read_text(encoding="utf-8", errors="replace"))
    ]

    assert found == []
