from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sluicegate.server.gpt2.kernels import KernelsUnavailable, build, library, open_kernels, processor
from sluicegate.server.gpt2.kernels.build import find_or_build
from sluicegate.server.gpt2.kernels.processor import TIERS, usable_tiers

TIER = TIERS[-1]


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The compiler's command lines; it writes a file that is no library."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        Path(command[-1]).write_text("not a library")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr("subprocess.run", run)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    return commands


def test_library_is_built_once_into_a_directory_of_the_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compilations: list[list[str]]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    first, second = find_or_build(TIER), find_or_build(TIER)

    assert first == second
    assert first.parent == tmp_path / "cache/sluicegate/kernels"
    assert stat.S_IMODE(first.parent.stat().st_mode) == 0o700
    assert [path.name for path in first.parent.iterdir()] == [first.name]
    assert len(compilations) == 1
    assert set(TIER.options) < set(compilations[0])


def test_other_source_and_other_instructions_make_another_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compilations: list[list[str]]
) -> None:
    paths = [find_or_build(tier, tmp_path / "kernels") for tier in TIERS]
    (tmp_path / "source").mkdir()
    monkeypatch.setattr(build, "SOURCE", tmp_path / "source")
    paths.append(find_or_build(TIER, tmp_path / "kernels"))

    assert len(set(paths)) == len(TIERS) + 1


def test_library_built_ahead_is_used_and_nothing_is_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compilations: list[list[str]]
) -> None:
    ahead = find_or_build(TIER, tmp_path / "built")
    monkeypatch.setattr(build, "BUILT", tmp_path / "built")
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    compilations.clear()

    assert find_or_build(TIER) == ahead
    assert not compilations


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_directory_that_others_can_write_to_is_refused(
    tmp_path: Path, compilations: list[list[str]], mode: int
) -> None:
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels").chmod(mode)

    with pytest.raises(KernelsUnavailable, match="can be written by others; set its mode to 0700"):
        find_or_build(TIER, tmp_path / "kernels")

    assert not compilations


def test_parent_of_the_cache_that_others_can_write_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compilations: list[list[str]]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "sluicegate").mkdir()
    (tmp_path / "sluicegate").chmod(0o777)

    with pytest.raises(KernelsUnavailable, match="sluicegate can be written by others; set its mode to 0700"):
        find_or_build(TIER)

    assert not compilations


def test_library_that_others_can_write_is_refused(tmp_path: Path, compilations: list[list[str]]) -> None:
    find_or_build(TIER, tmp_path / "kernels").chmod(0o666)

    with pytest.raises(KernelsUnavailable, match="could have been written by others; remove it"):
        find_or_build(TIER, tmp_path / "kernels")


def test_machine_without_a_compiler_is_told_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)

    with pytest.raises(KernelsUnavailable, match=r"no C\+\+ compiler is installed \(Debian: apt install g\+\+\)"):
        find_or_build(TIER, tmp_path / "kernels")


def failing(command: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess(command, 1, "", "In file x:\nx.h:1: error: bad value for -march\nmore")


def hanging(command: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
    raise subprocess.TimeoutExpired(command, 300)


@pytest.mark.parametrize(
    ("run", "reason"), [(failing, "failed: x.h:1: error: bad value for -march"), (hanging, "timed out after 300")]
)
def test_compiler_that_fails_or_hangs_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Any, reason: str
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/c++")
    monkeypatch.setattr("subprocess.run", run)

    with pytest.raises(KernelsUnavailable, match=reason):
        find_or_build(TIER, tmp_path / "kernels")

    assert not list((tmp_path / "kernels").iterdir())


def test_cache_directory_that_cannot_be_made_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")

    with pytest.raises(KernelsUnavailable, match="/proc/nowhere/sluicegate cannot be made"):
        find_or_build(TIER)


def test_file_that_is_no_library_is_a_reason_and_the_next_set_of_instructions_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compilations: list[list[str]]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(library, "usable_tiers", lambda: list(TIERS))

    with pytest.raises(KernelsUnavailable, match=r"avx2-.* cannot be loaded"):
        open_kernels.__wrapped__(1)

    assert len(compilations) == len(TIERS)


# The processor


def tiers_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str, machine: str = "x86_64") -> list[str]:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\nflags\t\t: {flags}\n")
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr("platform.machine", lambda: machine)
    processor._flags.cache_clear()
    found = [tier.name for tier in usable_tiers()]
    processor._flags.cache_clear()
    return found


AVX2 = "fpu avx2 fma f16c bmi1 bmi2 movbe abm"
AVX512 = f"{AVX2} avx512f avx512bw avx512cd avx512dq avx512vl"


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ("fpu sse4_2 avx", []),
        (AVX2, ["avx2"]),
        (AVX512, ["avx512", "avx2"]),
        (f"{AVX512} avx512_bf16", ["avx512_bf16", "avx512", "avx2"]),
        (f"{AVX512} avx512_bf16 amx_tile amx_bf16", ["amx", "avx512_bf16", "avx512", "avx2"]),
        (f"{AVX2} avx512f", ["avx2"]),
    ],
)
def test_tiers_are_those_that_the_processor_has_best_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str, names: list[str]
) -> None:
    assert tiers_of(monkeypatch, tmp_path, flags) == names


def test_other_machines_have_no_tier(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert tiers_of(monkeypatch, tmp_path, AVX512, machine="aarch64") == []


def test_command_builds_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, compilations: Any) -> None:
    from sluicegate.server.gpt2.kernels.__main__ import main

    monkeypatch.setattr(sys, "argv", ["kernels", str(tmp_path / "built"), "--all"])

    assert main() == 0
    assert [Path(line).name.split("-")[0] for line in capsys.readouterr().out.split()] == [t.name for t in TIERS]
    assert len(list((tmp_path / "built").iterdir())) == len(TIERS)
    assert (tmp_path / "built").stat().st_mode & 0o005 == 0o005, "another user runs the server"
