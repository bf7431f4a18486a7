"""The Dockerfile, as far as it can be looked at without a container engine; tests/soak/test_image.py runs its steps."""

from __future__ import annotations

import fnmatch
import shutil
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart import CHART, pod, rendered, server
from dockerfile import DOCKERFILE, ROOT, Stage, stages
from foreign import run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

HADOLINT = ROOT / ".tools/venv/bin/hadolint"
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FINAL = stages()[-1]


def copied() -> list[str]:
    """What of the checkout gets into the image."""
    (build,) = (stage for stage in stages() if stage.name == "build")
    return [word for each in build.all("COPY") for word in each.words[:-1]]


def test_the_linter_has_nothing_against_it() -> None:
    linted = run(HADOLINT, "--failure-threshold=info", DOCKERFILE)

    assert (linted.returncode, linted.stdout) == (0, "")


def test_the_linter_looks() -> None:
    linted = run(HADOLINT, "-", stdin="FROM debian\nRUN apt-get install g++\n")

    assert linted.returncode != 0
    assert "DL3008" in linted.stdout


@pytest.mark.parametrize("accelerator", ["cpu", "cuda"])
def test_each_stage_stands_on_a_stage_or_on_a_pinned_image(accelerator: str) -> None:
    seen: list[Stage] = []
    for stage in stages(ACCELERATOR=accelerator):
        outside = stage.parent not in {each.name for each in seen}
        assert not outside or ":" in stage.parent.removesuffix(":latest")
        seen.append(stage)

    assert sum(stage.parent == "debian:12.12-slim" for stage in seen) == 1


def test_an_accelerator_that_there_is_not_leads_to_no_stage() -> None:
    found = stages(ACCELERATOR="tpu")

    (build,) = (stage for stage in found if stage.name == "build")
    assert build.parent not in {stage.name for stage in found}


def test_every_package_has_the_version_that_the_tests_ran_with() -> None:
    installs = [each.text for stage in stages() for each in stage.all("RUN") if "pip install" in each.text]

    assert len(installs) == 2
    assert all("--constraint constraints.txt" in text for text in installs)


def test_the_user_is_the_charts_and_not_root(tmp_path: Path) -> None:
    run_as = VALUES["runAs"]

    assert FINAL.one("USER").text == f"{run_as['user']}:{run_as['group']}"
    assert run_as["user"] != 0


def test_the_ports_are_the_charts() -> None:
    assert {int(word) for word in FINAL.one("EXPOSE").words} == set(VALUES["ports"].values())


def test_what_the_chart_runs_is_what_the_image_runs(tmp_path: Path) -> None:
    container = server(rendered(tmp_path, CHART / "examples/cpu.yaml"))

    assert container["command"] == FINAL.one("ENTRYPOINT").words
    assert container["args"][:1] == FINAL.one("CMD").words
    assert pod(rendered(tmp_path, CHART / "examples/cpu.yaml"))["initContainers"][0]["command"][0] == "sh"


def test_nothing_but_what_is_copied_is_sent_to_the_builder() -> None:
    first, *rest = [
        line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if not line.startswith("#")
    ]

    assert first == "*"
    assert sorted(line[1:] for line in rest if line.startswith("!")) == sorted(copied())
    hidden = [line for line in rest if not line.startswith("!")]
    assert all(line.startswith("**/") for line in hidden)
    for name in copied():
        assert (ROOT / name).exists()
        assert not any(fnmatch.fnmatch(name, line.removeprefix("**/")) for line in hidden)


def test_a_wheel_of_what_is_copied_has_every_module(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in copied():
        place = source / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, place)

    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    built = run(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, source, home=tmp_path)

    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("sluicegate-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    roots = [ROOT / name for name in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]
    files = {
        path.relative_to(root.parent).as_posix()
        for root in roots
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == files
