"""`sluicegate policy sign-lifting`: one signer's consent to open again what an operator closed."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from sluicegate.auth.encoding import encode_base64url
from sluicegate.auth.errors import IssuingError, SigningError
from sluicegate.auth.signatures import lifting_payload, sign
from sluicegate.auth.signer_options import Deployment, KeyFile, Signer, read_signers_key
from sluicegate.auth.terminal import JsonFlag, err, out, print_json, stop


def policy_sign_lifting(
    withdrawal: Annotated[str, typer.Argument(metavar="ID", help="As `sluicegate withdraw list` shows it.")],
    *,
    key: KeyFile,
    signer: Signer,
    deployment: Deployment,
    as_json: JsonFlag = False,
) -> None:
    """Sign the lifting of one withdrawal; print what `sluicegate withdraw lift --signature` takes.

    It needs no server. Nothing but the id is signed: see in the list what it closes before you pass the signature on.
    """
    if not re.fullmatch("[!-~]{1,64}", withdrawal):
        raise typer.BadParameter("an id has 1 to 64 characters and no spaces", param_hint="ID")
    try:
        private_key = read_signers_key(key)
    except (IssuingError, SigningError) as error:
        stop(str(error))
    payload = lifting_payload(deployment, withdrawal)
    value = sign(private_key, payload)
    public_key = encode_base64url(private_key.public_key().public_bytes_raw())
    if as_json:
        print_json({"signed": payload.decode("utf-8"), "signer": signer, "value": value, "public_key": public_key})
        return
    err(f"signed {payload.decode('utf-8')}")
    err(f"with the key {public_key}; give this to `sluicegate withdraw lift {withdrawal} --signature`:")
    out(f"{signer}={value}")
