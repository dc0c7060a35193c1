"""Extended negotiation of C-FIND as options of commands (PS3.4 C.5.1.1)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from isocenter.engine.extended_negotiation import FindFlags
from isocenter.engine.items import ExtendedNegotiation
from isocenter.services.archive.index.time_zones import parse_offset
from isocenter.services.cli.support.client_command import Client
from isocenter.services.service_classes.client import ClientAssociation


def add_find_negotiation(group: argparse._ArgumentGroup) -> None:
    """``--fuzzy`` and ``--time-zone``."""
    group.add_argument(
        "--fuzzy",
        action="store_true",
        help="names that sound alike, too, in any order of their parts, if the peer can",
    )
    group.add_argument(
        "--time-zone",
        type=_offset,
        metavar="+HHMM",
        help="dates and times are by this offset from UTC, in the query and in the matches, if the "
        "peer can; with an equals sign: --time-zone=+0100",
    )


def _offset(text: str) -> str:
    if parse_offset(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no offset from UTC, like +0100 or -0430")
    return text


def zoned_keys(arguments: argparse.Namespace) -> tuple[tuple[str, str], ...]:
    """What an identifier says of the time zone."""
    return (("TimezoneOffsetFromUTC", arguments.time_zone),) if arguments.time_zone else ()


def extended_for(
    arguments: argparse.Namespace, sop_class_uids: Sequence[str]
) -> list[ExtendedNegotiation]:
    """What is proposed."""
    wanted = _wanted(arguments)
    if wanted == FindFlags():
        return []
    return [ExtendedNegotiation(uid, wanted.encode()) for uid in sop_class_uids]


def tell_refused(
    arguments: argparse.Namespace, client: Client, association: ClientAssociation, uid: str
) -> None:
    """Say what of it the peer did not agree to."""
    agreed = FindFlags.decode(association.negotiated.extended_negotiations.get(uid, b""))
    if _wanted(arguments).fuzzy_person_names and not agreed.fuzzy_person_names:
        client.terminal.note("the peer does no fuzzy matching: names match literally")
    if _wanted(arguments).timezone_adjustment and not agreed.timezone_adjustment:
        client.terminal.note("the peer does not adjust time zones: dates and times are its own")


def _wanted(arguments: argparse.Namespace) -> FindFlags:
    return FindFlags(
        fuzzy_person_names=arguments.fuzzy, timezone_adjustment=arguments.time_zone is not None
    )
