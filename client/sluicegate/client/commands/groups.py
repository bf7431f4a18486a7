"""Options that several commands share, written once as a data class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Show Typer a flat command: a parameter that is a data class becomes one option for each of its fields.

    A field that is a data class becomes the options of its own fields. Typer reads options from a function's signature
    and knows no groups. Names must differ among all groups and parameters of a command.
    """
    hints = get_type_hints(command, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if _is_group(hint)}
    shown: list[Parameter] = []
    for parameter in signature(command).parameters.values():
        if parameter.name not in groups:
            shown.append(parameter.replace(annotation=hints[parameter.name], kind=Parameter.KEYWORD_ONLY))
            continue
        shown.extend(_options(groups[parameter.name]))

    @wraps(command)
    def flat(**values: object) -> None:
        made = {name: _made(group, values) for name, group in groups.items()}
        own = {name: value for name, value in values.items() if name in hints}
        command(**own, **made)

    flat.__signature__ = Signature(shown)  # type: ignore[attr-defined]
    flat.__annotations__ = {each.name: each.annotation for each in shown}
    return flat


def _is_group(hint: object) -> bool:
    return isinstance(hint, type) and is_dataclass(hint)


def _options(group: type[Any]) -> Iterator[Parameter]:
    """One for each field of the group, and of the groups in it."""
    types = get_type_hints(group, include_extras=True)
    for each in fields(group):
        if _is_group(types[each.name]):
            yield from _options(types[each.name])
        else:
            yield Parameter(each.name, Parameter.KEYWORD_ONLY, default=_default(each), annotation=types[each.name])


def _made(group: type[Any], values: Mapping[str, object]) -> object:
    """The group with its fields' values."""
    types = get_type_hints(group)
    return group(
        **{
            each.name: _made(types[each.name], values) if _is_group(types[each.name]) else values[each.name]
            for each in fields(group)
        }
    )


def _default(field: Field[Any]) -> object:
    """The field's default; for one without, what makes a parameter required."""
    return Parameter.empty if field.default is MISSING else field.default
