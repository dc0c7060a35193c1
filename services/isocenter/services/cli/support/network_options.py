"""Options of the clients: peer, deadlines, user identity, in two spellings.

Every network option has the spelling of DCMTK's tools beside our own.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from isocenter.engine.deadlines import Deadlines
from isocenter.engine.items import UserIdentity
from isocenter.services.association.peer import Peer
from isocenter.services.cli import EXIT_USAGE
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.options import (
    UsageError,
    add_output_options,
    ae_title,
    whole_number,
)
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.cli.support.tls_options import add_tls_options
from isocenter.services.errors import text_of
from isocenter.services.settings import value_types as kinds

ANY_CALLED_AE_TITLE: Final = "ANY-SCP"
#: What DCMTK's tools take; larger P-DATA-TFs gain nothing that can be measured.
_MIN_PDU: Final = 4_096
_MAX_PDU: Final = 131_072
#: Length of a field of the user identity item: 16 bits, and the item has to hold two.
_MOST_SECRET_BYTES: Final = 65_000
#: A peer that stops in the middle of a message has gone (DCMTK's ``-ts``).
_SOCKET_SECONDS: Final = 60
_HOST_AND_PORT: Final = 2


def add_network_options(
    parser: CommandParser,
    *,
    calling: str,
    timeout: int,
    what_follows: str = "",
    is_optional: bool = False,
) -> None:
    """Positional arguments and options that every client has.

    Args:
        calling: default of the calling AE title.
        timeout: default of the connection and ACSE deadlines, in seconds.
        what_follows: name of the positional arguments behind the peer; empty: none.
        is_optional: whether there may be no peer at all.
    """
    parser.is_intermixed = True
    peer = "[HOST PORT | AET@HOST:PORT]" if is_optional else "(HOST PORT | AET@HOST:PORT)"
    parser.usage = f"{parser.prog} [OPTIONS] {peer} {what_follows}".rstrip()
    parser.add_argument(
        "peer",
        nargs="*" if is_optional else "+",
        metavar="PEER",
        help="the peer, as HOST PORT, AET@HOST:PORT or AET:HOST:PORT"
        + (f", then {what_follows}" if what_follows else ""),
    )
    add_output_options(parser)
    group = parser.add_argument_group("network")
    group.add_argument(
        "-aet",
        "--aetitle",
        "--calling-ae",
        type=ae_title,
        default=calling,
        metavar="AET",
        help="calling AE title: ours (default: %(default)s)",
    )
    group.add_argument(
        "-aec",
        "--call",
        type=ae_title,
        metavar="AET",
        help=f"called AE title: the peer's (default: {ANY_CALLED_AE_TITLE})",
    )
    add_seconds(group, "-to", "--timeout", default=timeout, text="to connect")
    add_seconds(
        group, "-ta", "--acse-timeout", default=timeout, text="for A-ASSOCIATE and A-RELEASE"
    )
    add_seconds(group, "-td", "--dimse-timeout", default=0, text="for a DIMSE response")
    add_seconds(
        group,
        "-ts",
        "--socket-timeout",
        default=_SOCKET_SECONDS,
        text="without a byte in the middle of a message",
    )
    group.add_argument(
        "-pdu",
        "--max-pdu",
        type=_max_pdu,
        metavar="N",
        help=f"largest P-DATA-TF to receive, {_MIN_PDU} to {_MAX_PDU} bytes (default: {_MAX_PDU})",
    )
    add_tls_options(parser)
    _add_identity_options(parser)


def add_seconds(group: argparse._ArgumentGroup, *flags: str, default: int, text: str) -> None:
    """An option that is a deadline."""
    group.add_argument(
        *flags,
        type=_seconds,
        default=float(default or math.inf),
        metavar="S",
        help=f"seconds {text}; 0: no limit (default: {default})",
    )


def _add_identity_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("user identity (PS3.7 D.3.3.7)")
    group.add_argument("-usr", "--user", metavar="NAME", help="who we are, with a passcode if any")
    passcode = group.add_mutually_exclusive_group()
    passcode.add_argument(
        "--password-file", type=Path, metavar="F", help="holds the passcode (for --user)"
    )
    passcode.add_argument(
        "-pwd", "--password", metavar="P", help="the passcode; everybody on this machine can see it"
    )
    group.add_argument("--jwt-file", "--jwt", type=Path, metavar="F", help="a JSON Web Token")
    group.add_argument("-kt", "--kerberos", type=Path, metavar="F", help="a Kerberos ticket")
    group.add_argument("--saml", type=Path, metavar="F", help="a SAML assertion")
    group.add_argument(
        "-rsp", "--pos-response", action="store_true", help="the peer must confirm who we are"
    )


def user_identity_of(arguments: argparse.Namespace) -> UserIdentity | None:
    """The user identity item that the options ask for.

    Raises:
        UsageError: they contradict each other, or a file cannot be read.
    """
    tokens = [
        (kind, path)
        for kind, path in (
            (3, arguments.kerberos),
            (4, arguments.saml),
            (5, arguments.jwt_file),
        )
        if path is not None
    ]
    has_passcode = arguments.password is not None or arguments.password_file is not None
    if len(tokens) + (arguments.user is not None) > 1:
        raise UsageError("one of --user, --jwt-file, --kerberos and --saml; leave the others out")
    if has_passcode and arguments.user is None:
        raise UsageError("a passcode needs --user NAME")
    wants_response = arguments.pos_response
    for kind, path in tokens:
        return UserIdentity(kind, wants_response, secret_in(path))
    if arguments.user is None:
        if wants_response:
            raise UsageError("-rsp confirms a user identity; give --user, --jwt-file or another")
        return None
    name = arguments.user.encode()
    if not has_passcode:
        return UserIdentity(1, wants_response, name)
    passcode = (
        arguments.password.encode()
        if arguments.password is not None
        else secret_in(arguments.password_file)
    )
    return UserIdentity(2, wants_response, name, passcode)


def secret_in(path: Path) -> bytes:
    """What stands in a file, without the end of its line."""
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_SECRET_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: {text_of(error)}") from error
    if len(content) > _MOST_SECRET_BYTES:
        raise UsageError(f"{path}: more than {_MOST_SECRET_BYTES} bytes are no secret")
    return content.removesuffix(b"\n").removesuffix(b"\r")


_max_pdu = whole_number(_MIN_PDU, _MAX_PDU)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value or math.inf


def peer_of(arguments: argparse.Namespace) -> tuple[Peer, list[str]]:
    """The peer, and the positional arguments that follow it.

    Raises:
        UsageError: there is no port, or it is none.
    """
    first, *rest = arguments.peer
    try:
        peer = Peer.parse(first)
    except ValueError:
        if not rest:
            raise UsageError(
                f"{first!r} is no peer; give HOST PORT, AET@HOST:PORT or AET:HOST:PORT, with an AE "
                "title of 1 to 16 characters and a port from 1 to 65535"
            ) from None
        try:
            host = kinds.HOST.from_text(first)
            number = kinds.PEER_PORT.from_text(rest[0])
        except ValueError:
            raise UsageError(
                f"{first!r} {rest[0]!r} is no peer; give HOST PORT (1 to 65535), "
                "AET@HOST:PORT or AET:HOST:PORT"
            ) from None
        peer, rest = Peer(ANY_CALLED_AE_TITLE, host, number), rest[1:]
    if arguments.call is not None:
        peer = replace(peer, ae_title=arguments.call)
    if arguments.tls_server_name is not None:
        peer = replace(peer, server_name=arguments.tls_server_name)
    return peer, rest


def run_with_called_ae_title(
    arguments: argparse.Namespace,
    run: Callable[[argparse.Namespace], int],
    words: Sequence[str] = (),
) -> int:
    """Run a command whose AE title may stand behind host and port, as some tools have it.

    Args:
        run: the command; it finds the AE title where ``-aec`` puts it.
        words: what may stand there and is none.
    """
    given: list[str] = arguments.peer
    if len(given) > _HOST_AND_PORT and "@" not in given[0] and given[2] not in words:
        try:
            called = ae_title(given[2])
        except argparse.ArgumentTypeError:
            called = ""
        if called and given[1].isdecimal():
            if arguments.call not in (None, called):
                terminal = Terminal.of(arguments)
                terminal.error(f"the called AE title is {called} and {arguments.call}; which?")
                return EXIT_USAGE
            arguments.call = called
            del given[2]
    return run(arguments)


def deadlines_of(arguments: argparse.Namespace) -> Deadlines:
    """The deadlines that the options set."""
    return Deadlines(
        connect=arguments.timeout,
        tls_handshake=arguments.acse_timeout,
        association_request=arguments.acse_timeout,
        association_response=arguments.acse_timeout,
        release=arguments.acse_timeout,
        response=arguments.dimse_timeout,
        idle=arguments.socket_timeout,
        write_blocked=arguments.socket_timeout,
    )
