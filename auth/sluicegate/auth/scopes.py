"""Scopes: what a token lets its caller ask for, as `action:target`, compared exactly.

There are no wildcards, no case folding and no order of sizes: `generate:gpt2-1558m` does not imply
`generate:gpt2-124m`. A scope that is not ours is carried along and matches nothing.
"""

from __future__ import annotations

import re

from sluicegate.auth.errors import ConfigurationError

MAX_SCOPES = 32
MAX_SCOPE_BYTES = 512

AUTHENTICATED = "authenticated"
"""The template of methods that need no scope of their own, only an admitted caller."""

TEMPLATES = (
    "generate:{model}",
    "score:{model}",
    "logprobs:{model}",
    "detect:watermark",
    "findings:read",
    "findings:write",
    "findings:manage",
    "release:read",
    "release:withdraw",
    "audit:read",
    "engine:read",
    "engine:manage",
)
"""Every scope that any method may ask for; `{model}` stands for a model id."""

# RFC 6749, section 3.3: scope = scope-token *( SP scope-token ); scope-token = 1*( %x21 / %x23-5B / %x5D-7E )
_SCOPE_CLAIM = re.compile(r"[!#-\[\]-~]+(?: [!#-\[\]-~]+)*")


def parse(claim: str) -> frozenset[str]:
    """The scopes of a token's `scope` claim. Raises ValueError if it breaks RFC 6749 or a limit."""
    if len(claim) > MAX_SCOPE_BYTES:
        raise ValueError(f"scope is longer than {MAX_SCOPE_BYTES} bytes")
    if not _SCOPE_CLAIM.fullmatch(claim):
        raise ValueError("scope is not a list of scope tokens, each separated by one space")
    names = claim.split(" ")
    if len(names) > MAX_SCOPES:
        raise ValueError(f"more than {MAX_SCOPES} scopes")
    return frozenset(names)


def required(template: str, model: str | None) -> str | None:
    """The scope that a method needs for this model; None if it needs only an admitted caller.

    Raises ConfigurationError for a template that is not in `TEMPLATES`, and for one with `{model}` without a
    model: a method whose need is unclear must not be served.
    """
    if template == AUTHENTICATED:
        return None
    if template not in TEMPLATES:
        raise ConfigurationError(f"{template!r} is no scope template")
    if "{model}" not in template:
        return template
    if not model:
        raise ConfigurationError(f"{template!r} needs a model, and this call names none")
    return template.replace("{model}", model)
