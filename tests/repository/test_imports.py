"""The import rule: arrows between components only point down, and each library has a home."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("auth", "server", "client")

# A component, and the components that it may import besides itself. A module belongs to the longest name that fits.
BELOW: dict[str, set[str]] = {
    "sluicegate.v1": set(),
    # What evaluations write and release gates read.
    "sluicegate.evidence": set(),
    "sluicegate.auth": {"sluicegate.evidence"},
    "sluicegate.client": {"sluicegate.v1", "sluicegate.evidence"},
    "sluicegate.server.engine": set(),
    "sluicegate.server.gpt2": {"sluicegate.server.engine", "sluicegate.server.watermark"},
    "sluicegate.server.guard": {"sluicegate.server.signals"},
    "sluicegate.server.watermark": set(),
    "sluicegate.server.signals": {"sluicegate.auth"},
    "sluicegate.server.errors": {"sluicegate.auth"},
    "sluicegate.server.config": set(),
    "sluicegate.server.settings_file": {"sluicegate.server.config", "sluicegate.server.errors"},
    "sluicegate.server.private_files": {"sluicegate.server.errors"},
    "sluicegate.server.audit": {"sluicegate.auth", "sluicegate.server.errors", "sluicegate.server.state"},
    "sluicegate.server.state": {"sluicegate.auth"},
    # Bounded GETs of other servers' pages, and what their commands are told: for watch and report alone.
    "sluicegate.server.fetching": {"sluicegate.server.errors"},
    "sluicegate.server.page_options": {"sluicegate.server.fetching"},
    # `sluicegate watch` reads metrics as observe defines them, and knows nothing of a server but its page.
    "sluicegate.server.watch": {
        "sluicegate.auth",
        "sluicegate.server.errors",
        "sluicegate.server.fetching",
        "sluicegate.server.observe",
        "sluicegate.server.page_options",
    },
    # `sluicegate report` reads audit logs through audit; of observe it has the classes of denials.
    "sluicegate.server.report": {
        "sluicegate.auth",
        "sluicegate.evidence",
        "sluicegate.server.audit",
        "sluicegate.server.errors",
        "sluicegate.server.fetching",
        "sluicegate.server.observe",
        "sluicegate.server.page_options",
    },
    "sluicegate.server.watermark.commands": {"sluicegate.auth", "sluicegate.server.watermark"},
    # Parts of the composition root.
    "sluicegate.server.engine_setup": {
        "sluicegate.auth",
        "sluicegate.server",
        "sluicegate.server.config",
        "sluicegate.server.engine",
        "sluicegate.server.errors",
        "sluicegate.server.observe",
        "sluicegate.server.watermark",
    },
    "sluicegate.server.watermark_setup": {
        "sluicegate.server",
        "sluicegate.server.config",
        "sluicegate.server.errors",
        "sluicegate.server.observe",
        "sluicegate.server.watermark",
    },
    "sluicegate.server.audit_setup": {
        "sluicegate.auth",
        "sluicegate.server",
        "sluicegate.server.audit",
        "sluicegate.server.config",
        "sluicegate.server.observe",
        "sluicegate.server.state",
    },
    "sluicegate.server.findings_setup": {
        "sluicegate.auth",
        "sluicegate.server",
        "sluicegate.server.audit",
        "sluicegate.server.config",
        "sluicegate.server.observe",
        "sluicegate.server.state",
    },
    "sluicegate.server.metrics_setup": {
        "sluicegate.server",
        "sluicegate.server.config",
        "sluicegate.server.errors",
        "sluicegate.server.observe",
    },
    "sluicegate.server.signals_setup": {
        "sluicegate.server",
        "sluicegate.server.config",
        "sluicegate.server.errors",
        "sluicegate.server.observe",
        "sluicegate.server.signals",
        "sluicegate.server.state",
    },
    "sluicegate.server.file_checks": {
        "sluicegate.server",
        "sluicegate.server.config",
        "sluicegate.server.errors",
        "sluicegate.server.metrics_setup",
        "sluicegate.server.signals_setup",
        "sluicegate.server.state_setup",
        "sluicegate.server.tracing_setup",
        "sluicegate.server.watermark_setup",
    },
    "sluicegate.server.state_setup": {
        "sluicegate.server",
        "sluicegate.server.config",
        "sluicegate.server.errors",
        "sluicegate.server.private_files",
        "sluicegate.server.state",
    },
    "sluicegate.server.tracing_setup": {
        "sluicegate.server.config",
        "sluicegate.server.errors",
        "sluicegate.server.observe",
        "sluicegate.server.rpc",
    },
    "sluicegate.server.observe": {
        "sluicegate.auth",
        "sluicegate.server.engine",
        "sluicegate.server.errors",
        "sluicegate.server.private_files",
        "sluicegate.server.signals",
    },
    # The use cases: the modules that stand directly in server/sluicegate/server/.
    "sluicegate.server": {
        "sluicegate.auth",
        "sluicegate.evidence",
        "sluicegate.server.audit",
        "sluicegate.server.engine",
        "sluicegate.server.guard",
        "sluicegate.server.errors",
        "sluicegate.server.observe",
        "sluicegate.server.signals",
        "sluicegate.server.state",
        "sluicegate.server.watermark",
    },
    "sluicegate.server.rpc": {
        "sluicegate.v1",
        "sluicegate.auth",
        "sluicegate.evidence",
        "sluicegate.server",
        "sluicegate.server.config",
        "sluicegate.server.engine",
        "sluicegate.server.errors",
        "sluicegate.server.observe",
        "sluicegate.server.state",
    },
    # An engine process. The front end starts it by name and never imports it, and so never imports torch.
    "sluicegate.server.worker": {
        "sluicegate.server.engine",
        "sluicegate.server.gpt2",
        "sluicegate.server.observe",
    },
    "sluicegate.server.app": {
        "sluicegate.auth",
        "sluicegate.server",
        "sluicegate.server.audit_setup",
        "sluicegate.server.engine_setup",
        "sluicegate.server.findings_setup",
        "sluicegate.server.metrics_setup",
        "sluicegate.server.signals_setup",
        "sluicegate.server.state_setup",
        "sluicegate.server.tracing_setup",
        "sluicegate.server.watermark_setup",
        "sluicegate.server.config",
        "sluicegate.server.engine",
        "sluicegate.server.errors",
        "sluicegate.server.observe",
        "sluicegate.server.rpc",
        "sluicegate.server.signals",
        "sluicegate.server.state",
        "sluicegate.server.watermark",
    },
    # `sluicegate init`, which reads a checkpoint's config.json.
    "sluicegate.server.scaffold": {
        "sluicegate.auth",
        "sluicegate.server.audit",
        "sluicegate.server.settings_file",
        "sluicegate.server.errors",
        "sluicegate.server.gpt2",
    },
    "sluicegate.server.commands": {
        "sluicegate.auth",
        "sluicegate.server.app",
        "sluicegate.server.config",
        "sluicegate.server.file_checks",
        "sluicegate.server.settings_file",
        "sluicegate.server.engine",
        "sluicegate.server.errors",
        "sluicegate.server.observe",
        "sluicegate.server.rpc",
        "sluicegate.server.scaffold",
        "sluicegate.server.state",
    },
    "sluicegate.server.demo": {
        "sluicegate.auth",
        "sluicegate.client",
        "sluicegate.server.audit",
        "sluicegate.server.app",
        "sluicegate.server.config",
        "sluicegate.server.errors",
        "sluicegate.server.observe",
    },
}

COMMAND_MODULES = {
    "sluicegate.auth.agreement_commands",
    "sluicegate.auth.clauses_command",
    "sluicegate.auth.commands",
    "sluicegate.auth.diff_command",
    "sluicegate.auth.explain_command",
    "sluicegate.auth.lifting_command",
    "sluicegate.auth.policy_commands",
    "sluicegate.auth.release_commands",
    "sluicegate.auth.signer_options",
    "sluicegate.auth.simulate_command",
    "sluicegate.auth.terminal",
    "sluicegate.auth.trust_file",
    "sluicegate.client.commands",
    "sluicegate.client.extensions",
    "sluicegate.client.main",
    "sluicegate.server.audit.commands",
    "sluicegate.server.audit.options",
    "sluicegate.server.audit.requests_command",
    "sluicegate.server.commands",
    "sluicegate.server.demo",
    "sluicegate.server.page_options",
    "sluicegate.server.report.commands",
    "sluicegate.server.watch.commands",
    "sluicegate.server.watermark.commands",
}

# A library's import name, and the modules or packages of ours that may import it.
HOMES: dict[str, set[str]] = {
    "cryptography": {"sluicegate.auth", "sluicegate.server.audit"},
    "google.protobuf": {"sluicegate.server.rpc", "sluicegate.client"},
    "google.rpc": {"sluicegate.server.rpc", "sluicegate.client"},
    "grpc": {"sluicegate.server.rpc", "sluicegate.server.app", "sluicegate.client"},
    "grpc_health": {"sluicegate.server.rpc", "sluicegate.server.app"},
    "grpc_reflection": {"sluicegate.server.rpc", "sluicegate.server.app"},
    "httpx": {
        "sluicegate.auth.discovery",
        "sluicegate.auth.fetching",
        "sluicegate.auth.keys",
        "sluicegate.client.oidc",
        # URLs and the client pass through these; the one request is in fetching.
        "sluicegate.server.fetching",
        "sluicegate.server.page_options",
        "sluicegate.server.report",
        "sluicegate.server.watch",
    },
    "huggingface_hub": {"sluicegate.server.checkpoints"},
    "jinja2": {"sluicegate.client.evaluation.pages", "sluicegate.server.report.pages"},
    "jwt": {"sluicegate.auth"},
    "markupsafe": {"sluicegate.client.evaluation.pages", "sluicegate.server.report.pages"},
    "msgspec": {
        "sluicegate.server.engine_setup",
        "sluicegate.server.audit",
        "sluicegate.server.engine",
        "sluicegate.server.generation",
        "sluicegate.server.signals.sketches.extracts",
    },
    "numpy": {
        "sluicegate.client.evaluation.matching",
        "sluicegate.server.gpt2",
        "sluicegate.server.signals.sketches",
        "sluicegate.server.watermark",
    },
    "opentelemetry": {
        "sluicegate.server.observe.spans",
        "sluicegate.server.rpc.collector",
        "sluicegate.server.tracing_setup",
    },
    "phonenumbers": {"sluicegate.server.signals.pii"},
    "presidio_analyzer": {"sluicegate.server.signals.pii.presidio"},
    "prometheus_client": {"sluicegate.server.observe"},
    "protovalidate": {"sluicegate.server.rpc.validation"},
    "pydantic": {
        "sluicegate.auth",
        "sluicegate.evidence",
        "sluicegate.server.audit.replaying",
        "sluicegate.server.config",
        "sluicegate.server.settings_file",
    },
    "pydantic_core": {"sluicegate.auth.loading", "sluicegate.evidence.collection"},
    "re2": {"sluicegate.server.signals"},
    "redis": {"sluicegate.server.state.redis"},
    "rfc8785": {
        "sluicegate.auth",
        "sluicegate.client.evaluation",
        "sluicegate.evidence",
        "sluicegate.server.audit",
        "sluicegate.server.state.findings",
    },
    "rich": COMMAND_MODULES | {"sluicegate.server.watch"},
    "scipy": {"sluicegate.client.evaluation.rates"},
    "spacy": {"sluicegate.server.signals.pii.presidio"},
    "stdnum": {"sluicegate.server.signals.pii"},
    "structlog": {"sluicegate.server"},
    "tokenizers": {"sluicegate.server.tokenizer"},
    "torch": {"sluicegate.server.gpt2"},
    "typer": COMMAND_MODULES,
    "yaml": {
        "sluicegate.auth.documents",
        "sluicegate.auth.editing",
        "sluicegate.server.scaffold",
        "sluicegate.server.settings_file",
    },
    "zmq": {"sluicegate.server.engine.transport"},
}


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement's target, as written in `module`."""

    module: str
    target: str
    place: str


def module_name(path: Path, root: Path) -> str:
    name = ".".join(path.relative_to(root).with_suffix("").parts)
    return name.removesuffix(".__init__")


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def home(name: str, table: dict[str, set[str]]) -> str | None:
    """The longest entry of the table that the name lies in."""
    return max((entry for entry in table if inside(name, entry)), key=len, default=None)


def targets(node: ast.AST, modules: set[str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        source = node.module or ""
        for alias in node.names:
            named = f"{source}.{alias.name}"
            yield named if named in modules else source


def read_imports() -> list[Import]:
    files = {
        path: module_name(path, ROOT / source) for source in SOURCES for path in sorted((ROOT / source).rglob("*.py"))
    }
    modules = set(files.values())
    found = []
    for path, module in files.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                place = f"{path.relative_to(ROOT)}:{node.lineno}"
                found += [Import(module, target, place) for target in targets(node, modules)]
    return found


IMPORTS = read_imports()
OURS = [entry for entry in IMPORTS if inside(entry.target, "sluicegate")]
STANDARD = sys.stdlib_module_names | {"_typeshed"}  # the latter exists for type checkers only
THIRD_PARTY = [
    entry
    for entry in IMPORTS
    if not inside(entry.target, "sluicegate") and entry.target.partition(".")[0] not in STANDARD
]


@pytest.mark.parametrize("component", BELOW)
def test_component_imports_only_what_lies_below_it(component: str) -> None:
    allowed = {component, *BELOW[component]}

    upward = [
        f"{entry.place} imports {entry.target}"
        for entry in OURS
        if home(entry.module, BELOW) == component and home(entry.target, BELOW) not in allowed
    ]

    assert not upward


def test_the_table_of_components_has_no_circle() -> None:
    below = {component: set(allowed) for component, allowed in BELOW.items()}

    while lowest := {component for component, allowed in below.items() if not allowed}:
        below = {component: allowed - lowest for component, allowed in below.items() if component not in lowest}

    assert not below


@pytest.mark.parametrize("library", HOMES)
def test_library_is_imported_at_home_only(library: str) -> None:
    users = [entry for entry in THIRD_PARTY if home(entry.target, HOMES) == library]

    strays = [entry.place for entry in users if not any(inside(entry.module, place) for place in HOMES[library])]

    assert users, f"nothing imports {library}: take it out of the table"
    assert not strays


def test_every_library_has_a_home() -> None:
    homeless = [f"{entry.place} imports {entry.target}" for entry in THIRD_PARTY if home(entry.target, HOMES) is None]

    assert not homeless


def test_every_module_belongs_to_a_component_and_every_component_has_modules() -> None:
    belongs = {entry.module: home(entry.module, BELOW) for entry in IMPORTS}

    assert None not in belongs.values()
    assert set(belongs.values()) | {"sluicegate.v1"} == set(BELOW)


@pytest.mark.parametrize(
    ("module", "never_loaded"),
    [
        ("sluicegate.client", ["sluicegate.server", "sluicegate.auth", "torch", "pydantic", "prometheus_client"]),
        ("sluicegate.server.commands", ["torch", "transformers", "opentelemetry.exporter"]),
        ("sluicegate.server.watch.commands", ["torch", "grpc", "jinja2"]),
        ("sluicegate.server.report.commands", ["torch", "grpc"]),
        ("sluicegate.server.gpt2", ["grpc", "transformers", "sluicegate.auth"]),
        ("sluicegate.auth", ["grpc", "torch", "sluicegate.server"]),
    ],
)
def test_module_loads_nothing_that_its_users_may_not_have(module: str, never_loaded: list[str]) -> None:
    program = f"import sys, {module}; print(*(name for name in {never_loaded} if name in sys.modules))"

    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()

    assert loaded == []
