"""``secure-ipp keys``: the keys of a cluster for their whole life.  No command shows a secret."""

from __future__ import annotations

import click

from secure_ipp.cli.lazy import LazyGroup
from secure_ipp.cli.options import EXIT_CODES_HELP


@click.group(
    name="keys",
    cls=LazyGroup,
    epilog=EXIT_CODES_HELP,
    lazy={
        "init": ("secure_ipp.cli.keys_init:init", "Make a cluster's keys, once."),
        "issue": ("secure_ipp.cli.keys_issue:issue", "Make an identity and its capability file."),
        "list": ("secure_ipp.cli.keys_show:list_keys", "List the identities that a cluster lets in."),
        "show": ("secure_ipp.cli.keys_show:show", "Show one identity, or a capability file."),
        "revoke": ("secure_ipp.cli.keys_change:revoke", "Take identities away."),
        "renew": ("secure_ipp.cli.keys_change:renew", "Give an identity another end."),
        "rotate": ("secure_ipp.cli.keys_rotate:rotate", "Give an identity, or the server, a new key."),
        "ways": ("secure_ipp.cli.keys_ways:ways", "Show or change the ways to a cluster through ssh."),
        "request": ("secure_ipp.cli.keys_request:request", "Make a key here, and ask a cluster's owner to let it in."),
        "approve": ("secure_ipp.cli.keys_issue:approve", "Grant a request."),
        "accept": ("secure_ipp.cli.keys_request:accept", "Join the owner's answer to the key that was made here."),
        "attenuate": ("secure_ipp.cli.keys_attenuate:attenuate", "Hand a lesser capability on, as its holder."),
        "seal": ("secure_ipp.cli.keys_seal:seal", "Seal a file by a passphrase, to a recipient, or into the keyring."),
        "unseal": ("secure_ipp.cli.keys_seal:unseal", "Put the secret back in a file, in clear."),
        "reseal": ("secure_ipp.cli.keys_seal:reseal", "Seal a file anew."),
        "recipient": ("secure_ipp.cli.keys_seal:recipient", "Make a key that others can seal files to."),
    },
)
def keys() -> None:
    """The keys that let clients and engines in, for their whole life.

    \b
    Examples:
      secure-ipp keys init
      secure-ipp keys issue ada --expires 7d --out ada.json
      secure-ipp keys list
      secure-ipp keys revoke ada
      secure-ipp keys seal ada.json
    """
