from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, get_type_hints

import pytest
import typer
from typer.testing import CliRunner

from sluicegate.client.commands.connection import Connection, Server
from sluicegate.client.commands.groups import with_option_groups
from sluicegate.client.commands.sampling import Sampling
from sluicegate.client.errors import ConfigurationError
from sluicegate.client.requests import GenerationConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Colour:
    hue: Annotated[str, typer.Option("--hue", envvar="TEST_HUE")] = "red"
    depth: Annotated[int | None, typer.Option("--depth")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    width: Annotated[int, typer.Option("--width")]
    height: Annotated[int, typer.Option("--height")] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    colour: Colour
    handles: Annotated[int, typer.Option("--handles")] = 1


def run(*arguments: str, env: dict[str, str] | None = None) -> tuple[str, Colour]:
    got: list[tuple[str, Colour]] = []

    @with_option_groups
    def paint(what: str, *, colour: Colour) -> None:
        """Paint it."""
        got.append((what, colour))

    app = typer.Typer()
    app.command()(paint)
    result = CliRunner().invoke(app, list(arguments), env=env)
    assert result.exit_code == 0, result.output
    return got[0]


def test_a_group_s_fields_are_options_of_the_command() -> None:
    assert run("door", "--depth", "3") == ("door", Colour(hue="red", depth=3))


def test_a_group_s_fields_keep_their_environment() -> None:
    assert run("door", env={"TEST_HUE": "blue"}) == ("door", Colour(hue="blue"))


def test_a_field_without_a_default_is_required() -> None:
    got: list[Size] = []

    @with_option_groups
    def cut(*, size: Size) -> None:
        """Cut it."""
        got.append(size)

    app = typer.Typer()
    app.command()(cut)
    missing, given = CliRunner().invoke(app, []), CliRunner().invoke(app, ["--width", "2"])

    assert (missing.exit_code, given.exit_code, got) == (2, 0, [Size(width=2)])
    assert "Missing option '--width'" in missing.output


def test_the_fields_of_a_group_in_a_group_are_options_too() -> None:
    got: list[Door] = []

    @with_option_groups
    def paint(*, door: Door) -> None:
        """Paint it."""
        got.append(door)

    app = typer.Typer()
    app.command()(paint)
    result = CliRunner().invoke(app, ["--depth", "3", "--handles", "2"], env={"TEST_HUE": "blue"})

    assert result.exit_code == 0, result.output
    assert got == [Door(colour=Colour(hue="blue", depth=3), handles=2)]


def test_the_command_keeps_its_name_and_its_help() -> None:
    @with_option_groups
    def paint(*, colour: Colour) -> None:
        """Paint it."""

    assert (paint.__name__, paint.__doc__) == ("paint", "Paint it.")


def test_every_field_of_the_generation_config_has_an_option() -> None:
    settings = Sampling(
        max_output_tokens=1,
        temperature=0.5,
        top_k=2,
        top_p=0.5,
        min_p=0.5,
        typical_p=0.5,
        repetition_penalty=1.5,
        presence_penalty=0.5,
        frequency_penalty=0.5,
        seed=3,
        candidates=4,
        stop=["END"],
        stop_token=[5],
        logit_bias=["50256=-100", "7=0.5"],
        ignore_eos=True,
        response_logprobs=True,
        logprobs=6,
    )

    config = settings.config()

    assert [each.name for each in fields(config) if getattr(config, each.name) == each.default] == []
    assert (config.candidate_count, config.stop_sequences, config.stop_token_ids) == (4, ("END",), (5,))
    assert config.logit_bias == {50256: -100.0, 7: 0.5}


def test_without_options_everything_is_the_server_s_default() -> None:
    assert Sampling().config() == GenerationConfig(stop_sequences=(), stop_token_ids=())


def test_alternatives_imply_log_probabilities() -> None:
    assert Sampling(logprobs=0).config().response_logprobs is True


@pytest.mark.parametrize("bias", ["50256", "=1", "a=1", "1=b", "1=1=1"])
def test_a_bias_that_is_none_is_refused(bias: str) -> None:
    with pytest.raises(ConfigurationError, match="ID=BIAS"):
        Sampling(logit_bias=[bias]).config()


def test_no_option_takes_a_secret() -> None:
    names = {*get_type_hints(Connection), *get_type_hints(Server)}

    assert "token_file" in names
    assert names.isdisjoint({"token", "client_secret", "password"})
