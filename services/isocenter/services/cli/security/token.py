"""``isocenter token``: API tokens for programs that use the web services."""

from __future__ import annotations

import argparse
from time import time
from typing import Any, Final

import orjson

from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.cli.support.actions import add_actions
from isocenter.services.cli.support.archive_action import run_action
from isocenter.services.cli.support.listing import print_rows
from isocenter.services.cli.support.local_time import local_time
from isocenter.services.cli.support.match_output import prepare_stdout, shown
from isocenter.services.cli.support.options import add_archive_options
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.composition.api_tokens import add_token, list_tokens, revoke_token
from isocenter.services.errors import StorageError
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.ports import ApiToken
from isocenter.services.security.access.scopes import SCOPES
from isocenter.services.security.audit.trail import TrailError
from isocenter.services.settings.settings import Settings

DESCRIPTION: Final = """\
API tokens: how programs prove over HTTP who they are (Authorization: Bearer TOKEN).  A token has
the permissions of a user of the policy, or of roles, narrowed by scopes, until it ends or is
revoked.  It is shown once, when it is made; the archive keeps a digest of it."""
EXAMPLES: Final = """\
examples:
  isocenter token add viewer --role Viewer --days 90
  isocenter token add loader --user alice --scope dicomweb.write
  isocenter token list
  isocenter token revoke viewer

All of them may run while the server does: what is revoked is refused from the next request on.

exit codes: 0 done, 1 not done, 2 arguments or settings"""

_HEAD: Final = ("ID", "name", "state", "user or roles", "scopes", "made", "ends", "last used")
_MOST_DAYS: Final = 3_650
_DEFAULT_DAYS: Final = 365


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of token."""
    for name, action in add_actions(
        parser,
        (
            ("add", "make a token, and show it this once"),
            ("list", "list all tokens, also those that have ended"),
            ("revoke", "end tokens at once"),
        ),
    ):
        add_archive_options(action)
        if name == "revoke":
            action.add_argument("tokens", nargs="+", metavar="NAME|ID", help="as list shows them")
            continue
        action.add_argument(
            "--format", choices=("table", "json"), default="table", help="(default: table)"
        )
        if name == "add":
            _add_options_of_add(action)


def _add_options_of_add(action: argparse.ArgumentParser) -> None:
    action.add_argument("name", metavar="NAME", help="what it is for, as list and audit show it")
    action.add_argument(
        "--user", default="", metavar="NAME", help="the user of the policy whose permissions it has"
    )
    action.add_argument(
        "--role",
        action="append",
        default=[],
        metavar="ROLE",
        help="the role whose permissions it has, without a user (repeatable)",
    )
    scopes = "; ".join(f"{name}: {text}" for name, text in SCOPES.items())
    action.add_argument(
        "--scope",
        action="append",
        default=[],
        choices=tuple(SCOPES),
        metavar="SCOPE",
        help=f"what it is good for of that (repeatable; default: all). {scopes}",
    )
    end = action.add_mutually_exclusive_group()
    end.add_argument(
        "--days",
        type=_days,
        default=_DEFAULT_DAYS,
        metavar="N",
        help="for how long (default: %(default)s)",
    )
    end.add_argument(
        "--no-expiry", action="store_true", help="until it is revoked: nobody will remember it"
    )


def _days(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= _MOST_DAYS):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days from 1 to {_MOST_DAYS:,}")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    return run_action(arguments, {"add": _add, "revoke": _revoke, "list": _list})


async def _add(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    text, token = await add_token(
        settings,
        arguments.name,
        user=arguments.user,
        roles=arguments.role,
        scopes=arguments.scope,
        days=None if arguments.no_expiry else arguments.days,
        process_name="isocenter token",
    )
    out = prepare_stdout(arguments.format)
    if arguments.format == "json":
        out.write(orjson.dumps({"token": text, **_json(token)}).decode() + "\n")
        return EXIT_OK
    out.write(text + "\n")
    terminal.note("keep it well: nobody can show it again")
    return EXIT_OK


async def _revoke(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    code = EXIT_OK
    for name_or_id in arguments.tokens:
        try:
            token = await revoke_token(settings, name_or_id, process_name="isocenter token")
        except (PolicyError, StorageError) as error:
            terminal.error(str(error))
            code = EXIT_FAILED
        except (TrailError, OSError) as error:
            terminal.error(f"{name_or_id} is revoked; the audit trail does not know it: {error}")
            code = EXIT_FAILED
        else:
            print(shown(f"{token.name} ({token.token_id}) is revoked"))
    return code


async def _list(settings: Settings, arguments: argparse.Namespace, _: Terminal) -> int:
    tokens = await list_tokens(settings)
    print_rows(tokens, as_json=arguments.format == "json", head=_HEAD, line=_line, members=_json)
    return EXIT_OK


def _line(token: ApiToken) -> tuple[str, ...]:
    texts = (
        token.token_id,
        token.name,
        token.state(time()),
        token.user or " ".join(token.roles),
        " ".join(token.scopes) or "all",
        local_time(token.created_at),
        local_time(token.expires_at) or "never",
        local_time(token.last_used_at) or "never",
    )
    return tuple(map(shown, texts))


def _json(token: ApiToken) -> dict[str, Any]:
    return {
        "id": token.token_id,
        "name": token.name,
        "state": token.state(time()),
        "user": token.user or None,
        "roles": token.roles,
        "scopes": token.scopes,
        "created": local_time(token.created_at),
        "created_by": token.created_by,
        "expires": local_time(token.expires_at) or None,
        "last_used": local_time(token.last_used_at) or None,
        "revoked": local_time(token.revoked_at) or None,
    }
