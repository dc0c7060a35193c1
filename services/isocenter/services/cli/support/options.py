"""Options that the client commands share, in two spellings.

Every network option has the spelling of DCMTK's tools beside our own.
"""

from __future__ import annotations

import argparse
import math
import os
import ssl
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Final

from isocenter.engine.deadlines import Deadlines
from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.items import UserIdentity
from isocenter.services.association.peer import Peer
from isocenter.services.cli import EXIT_USAGE
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.dicom.uids import UidRule
from isocenter.services.errors import text_of
from isocenter.services.net.tls.contexts import (
    DEFAULT_PROFILE,
    PROFILES,
    TlsFiles,
    client_context,
    server_context,
)
from isocenter.services.net.tls.errors import TlsFileError
from isocenter.services.net.tls.profile_names import profile_named
from isocenter.services.settings import value_types as kinds

ANY_CALLED_AE_TITLE: Final = "ANY-SCP"
#: What DCMTK's tools take; larger P-DATA-TFs gain nothing that can be measured.
_MIN_PDU: Final = 4_096
_MAX_PDU: Final = 131_072
#: Length of a field of the user identity item: 16 bits, and the item has to hold two.
_LONGEST_REASON: Final = 500
_MOST_SECRET_BYTES: Final = 65_000
#: A peer that stops in the middle of a message has gone (DCMTK's ``-ts``).
_SOCKET_SECONDS: Final = 60
_HOST_AND_PORT: Final = 2


class UsageError(IsocenterError):
    """The arguments cannot be: which, and what is allowed.  Exit code 2."""

    error_code = ErrorCode.ARGUMENTS


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


def add_tls_options(parser: argparse.ArgumentParser) -> None:
    """Whether TLS is spoken, and with which files; `tls_of` reads them."""
    group = parser.add_argument_group("TLS")
    group.add_argument("--tls", action="store_true", help="DICOM over TLS")
    group.add_argument(
        "+tls",
        "--enable-tls",
        nargs=2,
        type=Path,
        dest="key_and_certificate",
        metavar=("KEY", "CERT"),
        help="the same, with our private key and certificate (DCMTK's spelling)",
    )
    group.add_argument(
        "+tla", "--anonymous-tls", action="store_true", help="TLS without a certificate of ours"
    )
    group.add_argument("-tls", "--disable-tls", action="store_true", help="in the clear (default)")
    group.add_argument(
        "--tls-server-name",
        type=_host_name,
        metavar="NAME",
        help="the name that the peer's certificate has to be for, and that it is asked for (SNI), "
        "where it is not the host that we connect to",
    )
    add_tls_file_options(group)


def tls_profile(text: str) -> str:
    """A TLS profile by one of its names.

    Raises:
        ArgumentTypeError: there is none, or it is retired; the message says what to use.
    """
    try:
        return profile_named(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_tls_file_options(group: argparse._ArgumentGroup) -> None:
    """Certificates, keys, and what of the peer is verified; `tls_context_of` reads them."""
    group.add_argument("--tls-cert", type=Path, metavar="F", help="our certificate (PEM)")
    group.add_argument("--tls-key", type=Path, metavar="F", help="our private key (PEM)")
    group.add_argument(
        "--tls-ca",
        "+cf",
        "--add-cert-file",
        type=Path,
        action="append",
        default=[],
        metavar="F",
        help="who may have signed the peer's certificate (PEM, repeatable; "
        "default: the CAs of the system)",
    )
    group.add_argument(
        "--tls-crl", "+crl", "--add-crl-file", type=Path, metavar="F", help="what of it was revoked"
    )
    group.add_argument(
        "+pw", "--use-passwd", dest="key_password", metavar="P", help="password of the private key"
    )
    group.add_argument(
        "--tls-profile",
        type=tls_profile,
        default=DEFAULT_PROFILE,
        metavar="NAME",
        help=f"security profile: {', '.join(PROFILES)} (default: %(default)s)",
    )
    for flag, profile in (("+px", "bcp195"), ("+py", "non-downgrading"), ("+pz", "extended")):
        group.add_argument(
            flag,
            dest="tls_profile",
            action="store_const",
            const=profile,
            help=f"--tls-profile {profile}",
        )
    group.add_argument(
        "--tls-any-host",
        action="store_true",
        help="the peer's certificate need not name the host that we connect to",
    )
    group.add_argument(
        "--tls-no-verify",
        "-ic",
        "--ignore-peer-cert",
        action="store_true",
        help="take any certificate: protects against nobody who can redirect the connection",
    )


def _host_name(text: str) -> str:
    try:
        return kinds.HOST.from_text(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a host") from None


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
                f"{first!r} is no peer; give HOST PORT, AET@HOST:PORT or AET:HOST:PORT"
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


def check_paths(paths: Sequence[str]) -> None:
    """That there is something at each of *paths*.

    Raises:
        UsageError: there is not.
    """
    for path in paths:
        if not os.path.exists(path):
            raise UsageError(f"{path}: no such file or folder")


#: Oldest version of TLS, as people say it → our profile of it.
TLS_VERSIONS: Final = {"1.2": DEFAULT_PROFILE, "1.3": "tls13"}


def profile_of_version(text: str) -> str:
    """The security profile whose oldest version of TLS that is; a profile is itself."""
    return TLS_VERSIONS.get(text, text)


def tls_of(arguments: argparse.Namespace) -> ssl.SSLContext | None:
    """The TLS context that the options ask for; None: in the clear.

    Raises:
        UsageError, TlsFileError: they contradict each other, or a file cannot be used.
    """
    key, certificate = arguments.key_and_certificate or (arguments.tls_key, arguments.tls_cert)
    wanted = arguments.tls or arguments.anonymous_tls or key is not None or certificate is not None
    if arguments.disable_tls or not wanted:
        if arguments.disable_tls and wanted:
            raise UsageError("-tls (in the clear) contradicts the other TLS options; leave it out")
        if arguments.tls_ca or arguments.tls_crl:
            raise UsageError("files for TLS, but no TLS; add --tls")
        if arguments.tls_server_name is not None:
            raise UsageError("--tls-server-name, but no TLS; add --tls")
        return None
    if arguments.anonymous_tls and (key is not None or certificate is not None):
        raise UsageError("+tla shows no certificate; leave it out, or the certificate and key")
    if arguments.tls_server_name is not None and (
        arguments.tls_any_host or arguments.tls_no_verify
    ):
        raise UsageError(
            "--tls-server-name says whose certificate it has to be, and --tls-any-host and "
            "--tls-no-verify that anybody's will do; leave one out"
        )
    return tls_context_of(arguments, key, certificate)


def tls_context_of(
    arguments: argparse.Namespace, key: Path | None, certificate: Path | None
) -> ssl.SSLContext:
    """The context that the options of `add_tls_file_options` make.

    Raises:
        TlsFileError: a file cannot be used.
    """
    authorities: Sequence[Path] = arguments.tls_ca
    context = client_context(
        TlsFiles(
            certificate=certificate,
            key=key,
            ca=authorities[0] if authorities else None,
            crl=arguments.tls_crl,
            key_password=arguments.key_password,
        ),
        arguments.tls_profile,
        check_hostname=not arguments.tls_any_host,
        verify=not arguments.tls_no_verify,
    )
    for path in authorities[1:]:
        try:
            context.load_verify_locations(path)
        except (OSError, ssl.SSLError) as error:
            raise TlsFileError(path, "holds no CA certificate in PEM", "check the file") from error
    return context


def receiving_tls_of(arguments: argparse.Namespace) -> ssl.SSLContext:
    """What a listener of ours shakes hands with, with the files that the options name.

    Raises:
        UsageError, TlsFileError: one is missing or cannot be used.
    """
    key, certificate = arguments.key_and_certificate or (arguments.tls_key, arguments.tls_cert)
    if key is None or certificate is None or not arguments.tls_ca:
        raise UsageError("to receive over TLS, give --tls-cert, --tls-key and --tls-ca")
    return server_context(
        TlsFiles(
            certificate=certificate,
            key=key,
            ca=arguments.tls_ca[0],
            crl=arguments.tls_crl,
            key_password=arguments.key_password,
        ),
        arguments.tls_profile,
    )


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
