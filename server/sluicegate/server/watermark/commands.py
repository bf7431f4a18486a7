"""The command line of watermark keys. A key is never printed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sluicegate.auth.terminal import JsonFlag, out, print_json, stop
from sluicegate.server.watermark import WatermarkKeyError, create_key

watermark_app = typer.Typer(help="Keys that a server's output is marked by.", no_args_is_help=True)


@watermark_app.callback()
def _watermark() -> None:
    """Keeps `new-key` a command of its own although it is the only one."""


@watermark_app.command("new-key")
def new_key(
    model: Annotated[str, typer.Option(help="The model's id in the policy.")],
    directory: Annotated[Path, typer.Option(help="Where the server's keys are; made if need be, mode 0700.")],
    epoch: Annotated[int | None, typer.Option(help="Of the key; the one after the model's last if left out.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a key of a new epoch, in a file of its own with mode 0600, and print its id.

    A server that has the directory in `watermark.keys` marks the model's output by it from its next start on, and still
    finds what earlier keys marked.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        key, path = create_key(directory, model, epoch)
    except OSError as error:
        stop(f"{directory}: {error.strerror}")
    except WatermarkKeyError as error:
        stop(str(error))
    if as_json:
        print_json({"id": key.id, "model": key.model, "epoch": key.epoch, "path": str(path)})
    else:
        out(f"watermark key {key.id} of {key.model}, epoch {key.epoch}: {path} (keep it secret)")
