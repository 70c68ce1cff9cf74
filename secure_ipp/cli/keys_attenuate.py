"""``secure-ipp keys attenuate``: a holder hands a narrower, shorter capability on, over its own connection (S32)."""

from __future__ import annotations

import re
import time
from pathlib import Path

import click

from secure_ipp import limits
from secure_ipp.cli.keys_seal import to_option
from secure_ipp.cli.options import json_option, run_safely, show_json


@click.command(
    epilog="""\b
Examples:
  secure-ipp keys attenuate ada.json --rights task --expires 1d --out ben.json
  secure-ipp keys attenuate ada.json --name summer-school --expires 12h --out school.json
""",
)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@run_safely
@click.option("--rights", default=None, metavar="LIST", help="Some of yours.  [default: all but admin]")
@click.option("--expires", default="", metavar="WHEN",
              help="30m, 12h, 7d, 2w, or a date; not later than yours.  [default: when yours does]")
@click.option("--name", default="", metavar="NAME", help="What it is called, behind your name.  [default: from CHILD]")
@click.option("--timeout", type=float, default=limits.CONNECT_SECONDS, show_default=True, metavar="SECONDS",
              help="To look for the controller.")
@click.option("--out", required=True, metavar="CHILD", type=click.Path(path_type=Path), help="The new capability file.")
@to_option
@json_option
def attenuate(
    file: Path, rights: str | None, expires: str, name: str, timeout: float, out: Path, to: str, as_json: bool
) -> None:
    """Make a lesser capability from your own FILE, for somebody else, without the owner's hand.

    It can do some of what you can, for no longer than you; it draws on your quotas and ends with your key. The
    controller must run. The owner sees it behind your name (ada/ben), and can take it away alone.
    """
    from secure_ipp.client.client import Client
    from secure_ipp.keys.desk import check_free
    from secure_ipp.keys.expiry import in_words, parse_expires
    from secure_ipp.keys.orders import check_label
    from secure_ipp.keys.private_files import write_private
    from secure_ipp.keys.recipients import RecipientPublicKey
    from secure_ipp.keys.sealed_files import new_file

    name = check_label(name or _name_of(out))
    now = time.time()
    end = parse_expires(expires, now) if expires else 0
    check_free(out)
    recipient = RecipientPublicKey.of_word(to) if to else None
    with Client(file, timeout=timeout) as client:
        own = client.session.capability
        child = client.attenuate(name, rights=rights, expires=float(end) or None)
        write_private(out, new_file(child, recipient))
    if as_json:
        show_json({
            "file": str(out), "name": child.name, "handed_on_by": [parent.name for parent in child.parents],
            "rights": list(child.rights), "expires": child.expires, "key": child.public_key.fingerprint,
        })
        return
    click.echo(f"{own.name}/{child.name}: {', '.join(child.rights)}")
    click.echo(f"  file     {out}")
    click.echo(f"  key      {child.public_key.fingerprint}")
    click.echo(f"  expires  {in_words(child.expires, time.time())}")
    click.echo("in force now; it ends with your own key")


def _name_of(path: Path) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower()).strip(".-_")[:64] or "guest"
