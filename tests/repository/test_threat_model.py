"""Each attack of the threat model names tests that exist: what is claimed is shown."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/threat-model.md"
SECTION = PAGE.read_text(encoding="utf-8").partition("## Attacks, defences, tests\n")[2].partition("\n## ")[0]
ATTACKS = [line.strip("| ").split(" | ") for line in SECTION.splitlines() if line.startswith("| ")][1:]
TEST = re.compile(r"\[(test_\w+)\]\(\.\./(tests/[\w/]+\.py)\)")
CLAIMS = sorted({claim for *_, tests in ATTACKS for claim in TEST.findall(tests)})


@cache
def named_in(path: str) -> frozenset[str]:
    return frozenset(
        re.findall(r"^(?:async )?def (test_\w+)\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
    )


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack[0][:50])
def test_each_attack_has_a_defence_and_a_test(attack: list[str]) -> None:
    _, defence, tests = attack

    assert defence
    assert TEST.sub("", tests).strip(", ") == ""
    assert TEST.findall(tests)


@pytest.mark.parametrize(("name", "path"), CLAIMS)
def test_each_test_that_is_named_exists(name: str, path: str) -> None:
    assert name in named_in(path)
