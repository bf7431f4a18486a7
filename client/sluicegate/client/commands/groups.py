"""Options that several commands share, written once as a data class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Show Typer a flat command: a parameter that is a data class becomes one option for each of its fields.

    Typer reads options from a function's signature and knows no groups. Names must differ among all
    groups and parameters of a command.
    """
    hints = get_type_hints(command, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if isinstance(hint, type) and is_dataclass(hint)}
    shown: list[Parameter] = []
    for parameter in signature(command).parameters.values():
        if parameter.name not in groups:
            shown.append(parameter.replace(annotation=hints[parameter.name], kind=Parameter.KEYWORD_ONLY))
            continue
        group = groups[parameter.name]
        types = get_type_hints(group, include_extras=True)
        shown.extend(
            Parameter(each.name, Parameter.KEYWORD_ONLY, default=_default(each), annotation=types[each.name])
            for each in fields(group)
        )

    @wraps(command)
    def flat(**values: object) -> None:
        made = {
            name: group(**{each.name: values.pop(each.name) for each in fields(group)})
            for name, group in groups.items()
        }
        command(**values, **made)

    flat.__signature__ = Signature(shown)  # type: ignore[attr-defined]
    flat.__annotations__ = {each.name: each.annotation for each in shown}
    return flat


def _default(field: Field[Any]) -> object:
    """The field's default; for one without, what makes a parameter required."""
    return Parameter.empty if field.default is MISSING else field.default
