"""Options that many commands share, and types of their arguments."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from datetime import datetime, time, timedelta
from typing import Final

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.services.dicom.uids import UidRule
from isocenter.services.settings import value_types as kinds

_LONGEST_REASON: Final = 500


class UsageError(IsocenterError):
    """The arguments cannot be: which, and what is allowed.  Exit code 2."""

    error_code = ErrorCode.ARGUMENTS


def add_archive_options(parser: argparse.ArgumentParser) -> None:
    """Which archive: ``--config``, ``--data-dir``, ``--database``, ``--objects``, as for serve."""
    group = parser.add_argument_group("archive")
    group.add_argument("--config", metavar="FILE", help="file with settings (TOML or YAML)")
    group.add_argument(
        "--data-dir", dest="storage.data_dir", metavar="DIR", help="data directory of the archive"
    )
    group.add_argument(
        "--database", dest="database.url", metavar="URL", help="its PostgreSQL database, if it has"
    )
    group.add_argument(
        "--objects",
        dest="objects.url",
        metavar="URL",
        help="where its objects are, if not in the data directory",
    )


def add_output_options(
    parser: argparse.ArgumentParser,
    *,
    debug: tuple[str, ...] = ("-d", "--debug"),
    quiet: tuple[str, ...] = ("-q", "--quiet"),
) -> None:
    """``-v``, ``-d`` and ``-q``.

    Args:
        debug, quiet: the flags of these, where a command needs the letter for something else.
    """
    parser.set_defaults(prog=parser.prog)
    group = parser.add_argument_group("messages")
    group.add_argument("-v", "--verbose", action="store_true", help="tell what is done")
    group.add_argument(*debug, dest="debug", action="store_true", help="tell more")
    group.add_argument(*quiet, dest="quiet", action="store_true", help="no messages at all")


def add_reason(parser: argparse.ArgumentParser) -> None:
    """``--reason``, which has to be given."""
    parser.add_argument(
        "--reason",
        required=True,
        type=reason,
        metavar="TEXT",
        help="why; it stands in the audit trail",
    )


def ae_title(text: str) -> str:
    """An AE title as an argument."""
    try:
        return kinds.AE_TITLE.from_text(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {kinds.AE_TITLE.allowed}") from None


def uid(text: str) -> str:
    """A UID as an argument."""
    if not UidRule.SAFE.allows(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no UID")
    return text


def reason(text: str) -> str:
    """Why something is done, for whoever reads the audit trail later."""
    text = text.strip()
    if not text or len(text) > _LONGEST_REASON or not text.isprintable():
        raise argparse.ArgumentTypeError(
            f"a reason is one line of 1 to {_LONGEST_REASON} characters"
        )
    return text


def port(text: str) -> int:
    """A port as an argument."""
    try:
        return kinds.PEER_PORT.from_text(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {kinds.PEER_PORT.allowed}") from None


def point_in_time(text: str) -> datetime:
    """A day or a moment as an argument, with the time zone of this machine if it names none."""
    now = datetime.now().astimezone()
    days_ago = {"today": 0, "yesterday": 1}.get(text.lower())
    try:
        if days_ago is not None:
            # By its date: a day may have 23 or 25 hours.
            day = now.date() - timedelta(days=days_ago)
            return datetime.combine(day, time()).astimezone()
        when = datetime.fromisoformat(text)
        return when if when.tzinfo else when.astimezone()
    except (ValueError, OverflowError):  # the year 1 has no local time
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time; write today, yesterday, 2026-11-21, or 2026-11-21T14:30, with "
            "+01:00 or Z behind it where it is not the time of this machine"
        ) from None


def whole_number(minimum: int, maximum: int) -> Callable[[str], int]:
    """Makes the type of an argument that is a number within a range."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or not minimum <= int(text) <= maximum:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a whole number from {minimum} to {maximum}"
            )
        return int(text)

    return parse


def check_paths(paths: Sequence[str]) -> None:
    """That there is something at each of *paths*.

    Raises:
        UsageError: there is not.
    """
    for path in paths:
        if not os.path.exists(path):
            raise UsageError(f"{path}: no such file or folder")
