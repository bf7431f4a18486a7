"""The policy that the tests of access control begin with, and ways to change it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sluicegate.auth import Policy
from sluicegate.auth.loading import parse_policy
from sluicegate.auth.signatures import TrustRoot

Document = dict[str, Any]

SHA256 = "0" * 63 + "1"

_RELEASE = f"""
apiVersion: sluicegate/release/v1
models:
  gpt2-124m:
    parameters: 124439808
    source: openai-community/gpt2
    weights_sha256: "{SHA256}"
    license: MIT
  gpt2-355m: {{parameters: 354823168, source: openai-community/gpt2-medium, license: MIT}}
  gpt2-774m:
    parameters: 774030080
    source: openai-community/gpt2-large
    weights_sha256: "{SHA256}"
    license: MIT
  gpt2-1558m: {{parameters: 1557611200, source: ./weights/gpt2-xl, license: MIT}}
  gpt2-next: {{parameters: 3000000000, source: /models/next, license: MIT}}
stages:
  - id: s1
    name: small
    open: {{gpt2-124m: public, gpt2-774m: partner, gpt2-next: internal}}
  - id: s2
    name: medium
    open:
      gpt2-124m: public
      gpt2-355m: public
      gpt2-774m: partner
      gpt2-1558m: partner
      gpt2-next: internal
  - id: s3
    name: large
    open:
      gpt2-124m: public
      gpt2-355m: public
      gpt2-774m: public
      gpt2-1558m: partner
      gpt2-next: internal
    requires: [{{gate: bias, model: gpt2-774m}}, {{finding: example-lab, model: gpt2-774m}}]
gates:
  bias: {{evidence: bias, suite: occupations, share_between: [40%, 60%]}}
active: s2
internal: {{clients: [{{issuer: "https://issuer.example", client: eval-team}}]}}
public:
  anonymous: refuse
  quotas:
    requests_per_minute: 20
    output_tokens_per_day: 50000
    output_tokens_per_call: 256
    concurrent_streams: 2
on_state_lost: {{public: serve, partner: refuse}}
transitions:
  - {{from: s1, to: s2, at: "2026-01-03T16:00:00Z"}}
"""

_AGREEMENT = f"""
id: agr-example-lab
partner: example-lab
status: active
legal:
  document: Software Access Agreement
  sha256: "{SHA256}"
  signed_on: "2026-01-12"
  non_commercial: true
valid: {{from: "2026-01-20T00:00:00Z", until: "2027-01-20T00:00:00Z"}}
clients: [{{issuer: "https://issuer.example", client: lab-app}}]
models: [gpt2-124m, gpt2-774m]
actions: [generate, score]
purposes: [human-susceptibility]
output: {{watermark: required, redaction: pii, flagged: stop}}
timezone: America/New_York
token: {{max_lifetime: 900s, binding: mtls, acr: ["urn:example:acr:mfa"], max_auth_age: 8h}}
networks: [192.0.2.0/24]
hours: {{weekdays: "07:00-22:00", mode: signal}}
quotas: {{concurrent_streams: 4, requests_per_minute: 60, output_tokens_per_call: 512}}
findings: {{due_every: 90d}}
"""


class _Plain(yaml.SafeDumper):
    """Writes what stands in a document twice twice: policy files have no aliases."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def release(**changes: Any) -> Document:
    """The release plan as plain data, with top-level members changed."""
    return {**copy.deepcopy(yaml.safe_load(_RELEASE)), **changes}


def agreement(**changes: Any) -> Document:
    """The agreement of example-lab as plain data, with top-level members changed; None takes one away."""
    members = {**yaml.safe_load(_AGREEMENT), **changes}
    return {name: value for name, value in members.items() if value is not None}


def contents(plan: Document | None = None, *agreements: Document) -> Mapping[str, bytes]:
    """Policy files by name, as they would be read."""
    files = {"release.yaml": plan or release()}
    files |= {f"agreements/{index}.yaml": document for index, document in enumerate(agreements)}
    return {name: yaml.dump(document, Dumper=_Plain, sort_keys=False).encode() for name, document in files.items()}


def policy(plan: Document | None = None, *agreements: Document, trust: TrustRoot | None = None) -> Policy:
    return parse_policy(Path("/policy"), contents(plan, *agreements), trust)


def write_policy(directory: Path, plan: Document | None = None, *agreements: Document) -> Path:
    """The same as files."""
    (directory / "agreements").mkdir(parents=True, exist_ok=True)
    for name, content in contents(plan, *agreements).items():
        (directory / name).write_bytes(content)
    return directory
