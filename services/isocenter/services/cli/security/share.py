"""``isocenter share``: links to one study, for whoever has them."""

from __future__ import annotations

import argparse
from pathlib import Path
from time import time
from typing import Any, Final

import orjson

from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.cli.support.actions import add_actions
from isocenter.services.cli.support.archive_action import run_action
from isocenter.services.cli.support.listing import print_rows
from isocenter.services.cli.support.local_time import local_time
from isocenter.services.cli.support.match_output import prepare_stdout, shown
from isocenter.services.cli.support.options import UsageError, add_archive_options
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.composition.share_links import add_link, list_links, revoke_link
from isocenter.services.errors import StorageError, text_of
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.ports import ShareLink
from isocenter.services.security.access.share_links import MOST_DAYS
from isocenter.services.security.audit.trail import TrailError
from isocenter.services.settings.settings import Settings

DESCRIPTION: Final = """\
Links to one study: whoever has one looks at that study in a browser without signing in, and
downloads it where that is allowed, until the link ends or is revoked.  It is shown once, when it is
made; the archive keeps a digest of it."""
EXAMPLES: Final = """\
examples:
  isocenter share add 1.2.840.113619.2.55.3 --for 'Dr. Roe' --days 14
  isocenter share add 1.2.840.113619.2.55.3 --download --passcode-file passcode.txt
  isocenter share list
  isocenter share revoke 0a1b2c3d

All of them may run while the server does: what is revoked opens nothing from the next request on.

exit codes: 0 done, 1 not done, 2 arguments or settings"""

_HEAD: Final = ("ID", "study", "for", "state", "may", "made", "ends", "opened", "last opened")
_DEFAULT_DAYS: Final = 7


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of share."""
    for name, action in add_actions(
        parser,
        (
            ("add", "make a link, and show it this once"),
            ("list", "list all links, also those that have ended"),
            ("revoke", "end links at once"),
        ),
    ):
        add_archive_options(action)
        if name == "revoke":
            action.add_argument("links", nargs="+", metavar="ID", help="as list shows them")
            continue
        action.add_argument(
            "--format", choices=("table", "json"), default="table", help="(default: table)"
        )
        if name == "add":
            _add_options_of_add(action)


def _add_options_of_add(action: argparse.ArgumentParser) -> None:
    action.add_argument("study", metavar="UID", help="Study Instance UID")
    action.add_argument(
        "--for", dest="label", default="", metavar="TEXT", help="for whom or what, as list shows it"
    )
    action.add_argument(
        "--days",
        type=_days,
        default=_DEFAULT_DAYS,
        metavar="N",
        help="for how long (default: %(default)s)",
    )
    action.add_argument(
        "--download", action="store_true", help="the study may be downloaded as a ZIP file, too"
    )
    action.add_argument(
        "--passcode-file",
        type=Path,
        metavar="FILE",
        help="its first line has to be said beside the link",
    )


def _days(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= MOST_DAYS):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days from 1 to {MOST_DAYS:,}")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    return run_action(arguments, {"add": _add, "revoke": _revoke, "list": _list})


async def _add(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    text, link = await add_link(
        settings,
        arguments.study,
        label=arguments.label,
        days=arguments.days,
        may_download=arguments.download,
        passcode=_passcode(arguments.passcode_file),
        process_name="isocenter share",
    )
    root = settings.web.public_root.rstrip("/")
    path = f"{root}/share/{text}"
    out = prepare_stdout(arguments.format)
    if arguments.format == "json":
        out.write(orjson.dumps({"link": path, **_json(link)}).decode() + "\n")
        return EXIT_OK
    out.write(path + "\n")
    if not root:
        terminal.note("put the address of the server before it; web.public_root would have done so")
    terminal.note("keep it well: nobody can show it again")
    return EXIT_OK


def _passcode(file: Path | None) -> str:
    if file is None:
        return ""
    try:
        said = file.read_text("utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        why = text_of(error) if isinstance(error, OSError) else "is no text"
        raise UsageError(f"{file}: {why}") from error
    if not said:
        raise UsageError(f"{file}: its first line is empty; write the passcode there")
    return said


async def _revoke(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    code = EXIT_OK
    for link_id in arguments.links:
        try:
            link = await revoke_link(settings, link_id, process_name="isocenter share")
        except (PolicyError, StorageError) as error:
            terminal.error(str(error))
            code = EXIT_FAILED
        except (TrailError, OSError) as error:
            terminal.error(f"{link_id} is revoked; the audit trail does not know it: {error}")
            code = EXIT_FAILED
        else:
            print(f"{link.link_id} is revoked")
    return code


async def _list(settings: Settings, arguments: argparse.Namespace, _: Terminal) -> int:
    links = await list_links(settings)
    print_rows(links, as_json=arguments.format == "json", head=_HEAD, line=_line, members=_json)
    return EXIT_OK


def _line(link: ShareLink) -> tuple[str, ...]:
    may = "look and download" if link.may_download else "look"
    texts = (
        link.link_id,
        link.study_instance_uid,
        link.label,
        link.state(time()),
        f"{may}, with a passcode" if link.passcode_hash else may,
        local_time(link.created_at),
        local_time(link.expires_at),
        str(link.uses),
        local_time(link.last_used_at) or "never",
    )
    return tuple(map(shown, texts))


def _json(link: ShareLink) -> dict[str, Any]:
    return {
        "id": link.link_id,
        "study": link.study_instance_uid,
        "for": link.label,
        "state": link.state(time()),
        "may_download": link.may_download,
        "has_passcode": bool(link.passcode_hash),
        "created": local_time(link.created_at),
        "created_by": link.created_by,
        "expires": local_time(link.expires_at),
        "opened": link.uses,
        "last_used": local_time(link.last_used_at) or None,
        "revoked": local_time(link.revoked_at) or None,
    }
