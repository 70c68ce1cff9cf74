"""``secure-ipp keys request`` and ``accept``: the holder's side of a key whose secret never travels."""

from __future__ import annotations

import getpass
import re
from typing import Literal, cast

import click

from secure_ipp.cli.options import json_option, run_safely, show_json


@click.command(
    epilog="""\b
Examples:
  secure-ipp keys request --out ada.request
  secure-ipp keys request --name ada --rights task,direct,observe --out ada.request
  secure-ipp keys request --role engine --name lab-hosts --out lab.request
""",
)
@run_safely
@click.option("--out", required=True, metavar="REQUEST", help="The new request; its secret goes to REQUEST.key.")
@click.option("--name", default="", metavar="NAME", help="The name you wish.  [default: your user name]")
@click.option("--role", type=click.Choice(["client", "engine"]), default="client", show_default=True,
              help="Whether you will send work, or offer engines.")
@click.option("--rights", default=None, metavar="LIST", help="The rights you wish.  [default: task,direct]")
@json_option
def request(out: str, name: str, role: str, rights: str | None, as_json: bool) -> None:
    """Make a key here, and a request to a cluster's owner to let it in.

    Send REQUEST to the owner by any way; it holds no secret. Tell the key's fingerprint by another way, so that the
    owner knows that nobody swapped the file. What comes back is an answer: secure-ipp keys accept.
    """
    from secure_ipp.cluster.owner_keys import request as make_request

    made = make_request(out, name=name or _user_name(), role=cast(Literal["client", "engine"], role), rights=rights)
    if as_json:
        show_json({"file": made.file, "key_file": made.key_file, "key": made.fingerprint})
        return
    click.echo(f"request  {made.file}  (send it to the cluster's owner)")
    click.echo(f"secret   {made.key_file}  (stays here; show it to nobody)")
    click.echo(f"key      {made.fingerprint}  (tell it to the owner by another way, by voice say)")


@click.command(
    epilog="""\b
Examples:
  secure-ipp keys accept ada.answer --out ada.json
  secure-ipp keys accept ada.answer --issuer k3vq-5x2a-7wjd-qm4n-c6tr-z2ye --out ada.json
  secure-ipp keys accept renewed.answer --out ada.json          (a renewal, onto the file that you have)
""",
)
@click.argument("answer", metavar="ANSWER")
@run_safely
@click.option("--out", required=True, metavar="FILE", help="The capability file: a new one, or yours to be renewed.")
@click.option("--key", default=None, metavar="FILE", help="The request's key file, where it cannot be found nearby.")
@click.option("--issuer", default="", metavar="KEY", help="The issuer's fingerprint, as the owner told it.")
@json_option
def accept(answer: str, out: str, key: str | None, issuer: str, as_json: bool) -> None:
    """Join the owner's ANSWER to the key that was made here: the result is a capability file.

    The answer is no secret, but it must be the owner's: compare the issuer's fingerprint with what the owner tells you
    by another way, or give it with --issuer. A renewal is joined to the file that you have, and replaces it.
    """
    from secure_ipp.cluster.owner_keys import accept as accept_answer

    accepted = accept_answer(answer, out, key=key, issuer=issuer)
    capability = accepted.capability
    if as_json:
        show_json({
            "file": accepted.file, "renewed": accepted.renewed, "removed": accepted.removed,
            "key": capability.public_key.fingerprint, "issuer": capability.issuer_key.fingerprint,
            "cluster": capability.cluster, "name": capability.name, "expires": capability.expires,
        })
        return
    click.echo(f"{'renewed' if accepted.renewed else 'wrote'} {accepted.file}: {capability.role} {capability.name!r} of"
               f" cluster {capability.cluster!r}")
    compared = "as expected" if issuer or accepted.renewed else "compare it with what the owner tells you"
    click.echo(f"issuer   {capability.issuer_key.fingerprint}  ({compared})")
    if accepted.removed:
        click.echo(f"removed  {accepted.removed}  (its secret is in {accepted.file} now)")


def _user_name() -> str:
    """This user's name, as far as it is a name of an identity."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = ""
    return re.sub(r"[^a-z0-9._-]+", "-", user.lower()).lstrip(".-_")[:64] or "guest"
