"""The examples of docs/policy.md are policies."""

from __future__ import annotations

import re
from pathlib import Path

from sluicegate.auth.loading import parse_policy

PAGE = (Path(__file__).parents[2] / "docs" / "policy.md").read_text(encoding="utf-8")
RELEASE, AGREEMENT, *_ = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_plan_and_the_agreement_on_the_page_are_a_policy() -> None:
    files = {"release.yaml": RELEASE.encode(), "agreements/example-lab.yaml": AGREEMENT.encode()}

    policy = parse_policy(Path("/policy"), files, None)

    assert (policy.stage.id, list(policy.agreements)) == ("s1", ["agr-example-lab-2026-01"])
