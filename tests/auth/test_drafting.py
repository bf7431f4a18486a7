"""The text of a draft: what is given, and the rest to be filled in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from policies import agreement, contents

from sluicegate.auth.documents import parse_document
from sluicegate.auth.drafting import drafted
from sluicegate.auth.loading import parse_policy

LEAST = ("id", "partner", "status", "legal", "valid", "clients", "models", "actions", "timezone", "quotas")


def least() -> dict[str, Any]:
    terms = agreement(status="draft")
    return {name: terms[name] for name in LEAST}


@pytest.mark.parametrize("terms", [least(), agreement(status="draft"), agreement(output={"flagged": "stop"})])
def test_a_draft_reads_as_its_terms(terms: dict[str, Any]) -> None:
    assert parse_document(drafted(terms)) == terms


def test_each_line_names_its_clause() -> None:
    lines = drafted(least()).decode().splitlines()

    assert (
        "quotas: {concurrent_streams: 4, requests_per_minute: 60, output_tokens_per_call: 512}   # clause 12, Quotas"
        in lines
    )
    assert "# networks: [192.0.2.0/24]   # clause 10, Networks; left out: from anywhere" in lines
    assert all("clause" in line or line.endswith(":") or line.startswith("  - {") for line in lines[2:])


def test_a_draft_with_every_line_uncommented_is_a_good_agreement() -> None:
    text = drafted(least()).decode()
    whole = re.sub("^# ", "", text.partition("\nid:")[2], flags=re.MULTILINE)

    files = {**contents(), "agreements/a.yaml": f"id:{whole}".encode()}

    policy = parse_policy(Path("/policy"), files, None)
    [terms] = policy.agreements.values()
    assert terms.model_fields_set == terms.__class__.model_fields.keys() - {"signature"}
    assert terms.hours is not None
    assert terms.hours.mode == "enforce"
