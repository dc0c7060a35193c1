"""What the client commands share: options in two spellings, TLS, Ctrl-C, exit codes.

Every network option has the spelling of DCMTK's tools beside our own.  Data goes to
standard output; everything else is one line on standard error.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from isocenter.engine.errors import (
    AssociationError,
    AssociationRejectedError,
    IsocenterError,
    LocalProtocolError,
    TransportLostError,
)
from isocenter.services import setting_kinds as kinds
from isocenter.services.association import Deadlines
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from isocenter.services.cli.terminal import Terminal
from isocenter.services.client import ClientAssociation, Context, open_association
from isocenter.services.identifier import KeySyntaxError
from isocenter.services.peer import Peer
from isocenter.services.tls import (
    DEFAULT_PROFILE,
    PROFILES,
    TlsFileError,
    TlsFiles,
    client_context,
)

ANY_CALLED_AE_TITLE: Final = "ANY-SCP"
#: What DCMTK's tools take; larger P-DATA-TFs gain nothing that can be measured.
_MIN_PDU: Final = 4_096
_MAX_PDU: Final = 131_072
#: A peer that stops in the middle of a message has gone (DCMTK's ``-ts``).
_SOCKET_SECONDS: Final = 60.0


class UsageError(IsocenterError):
    """The arguments cannot be: which, and what is allowed.  Exit code 2."""


class CannotAssociate(IsocenterError):
    """No association with the peer: why, and what to do.  Exit code 2."""


# -- Options -----------------------------------------------------------------------------


def add_network_options(
    parser: argparse.ArgumentParser, *, calling: str, timeout: int, what_follows: str = ""
) -> None:
    """Positional arguments and options that every client has.

    Args:
        calling: default of the calling AE title.
        timeout: default of the connection and ACSE deadlines, in seconds.
        what_follows: name of the positional arguments behind the peer; empty: none.
    """
    # DCMTK's users put options between the positional arguments, too.
    parser.parse_args = parser.parse_intermixed_args  # type: ignore[method-assign,assignment]
    parser.set_defaults(prog=parser.prog)
    parser.add_argument(
        "peer",
        nargs="+",
        metavar="HOST PORT" + (f" [{what_follows}]" if what_follows else ""),
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
    seconds = {"type": _seconds, "metavar": "S"}
    group.add_argument(
        "-to",
        "--timeout",
        **seconds,
        default=float(timeout),
        help=f"seconds to connect; 0: no limit (default: {timeout})",
    )
    group.add_argument(
        "-ta",
        "--acse-timeout",
        **seconds,
        default=float(timeout),
        help=f"seconds for A-ASSOCIATE and A-RELEASE; 0: no limit (default: {timeout})",
    )
    group.add_argument(
        "-td",
        "--dimse-timeout",
        **seconds,
        default=math.inf,
        help="seconds for a DIMSE response; 0: no limit (default)",
    )
    group.add_argument(
        "-ts",
        "--socket-timeout",
        **seconds,
        default=_SOCKET_SECONDS,
        help="seconds without a byte in the middle of a message; 0: no limit "
        f"(default: {_SOCKET_SECONDS:g})",
    )
    group.add_argument(
        "-pdu",
        "--max-pdu",
        type=_max_pdu,
        metavar="N",
        help=f"largest P-DATA-TF to receive, {_MIN_PDU} to {_MAX_PDU} bytes (default: {_MAX_PDU})",
    )
    _add_tls_options(parser)


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """``-v``, ``-d`` and ``-q``."""
    parser.set_defaults(prog=parser.prog)
    group = parser.add_argument_group("messages")
    group.add_argument("-v", "--verbose", action="store_true", help="tell what is done")
    group.add_argument("-d", "--debug", action="store_true", help="tell more")
    group.add_argument("-q", "--quiet", action="store_true", help="no messages at all")


def _add_tls_options(parser: argparse.ArgumentParser) -> None:
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
        choices=tuple(PROFILES),
        default=DEFAULT_PROFILE,
        help="security profile (default: %(default)s)",
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


def ae_title(text: str) -> str:
    """An AE title as an argument."""
    try:
        return kinds.AE_TITLE.from_text(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {kinds.AE_TITLE.allowed}") from None


def port(text: str) -> int:
    """A port as an argument."""
    try:
        return kinds.PEER_PORT.from_text(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {kinds.PEER_PORT.allowed}") from None


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
        peer = Peer(arguments.call, peer.host, peer.port)
    return peer, rest


def check_paths(paths: Sequence[str]) -> None:
    """That there is something at each of *paths*.

    Raises:
        UsageError: there is not.
    """
    for path in paths:
        if not os.path.exists(path):
            raise UsageError(f"{path}: no such file or folder")


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
        return None
    if arguments.anonymous_tls and (key is not None or certificate is not None):
        raise UsageError("+tla shows no certificate; leave it out, or the certificate and key")
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


# -- Running -----------------------------------------------------------------------------


@dataclass(slots=True)
class Interrupts:
    """Ctrl-C: once ends what is under way in an orderly manner, twice ends everything.

    Attributes:
        requested: the user wants to stop.
    """

    requested: bool = False
    _scopes: list[trio.CancelScope] = field(default_factory=list)

    @contextmanager
    def stoppable(self) -> Iterator[trio.CancelScope]:
        """What is inside is cancelled; the association around it lives to say goodbye."""
        with trio.CancelScope() as scope:
            if self.requested:
                scope.cancel()
            self._scopes.append(scope)
            try:
                yield scope
            finally:
                self._scopes.remove(scope)

    def request(self, everything: trio.CancelScope) -> None:
        """The user pressed Ctrl-C."""
        if self.requested or not self._scopes:
            everything.cancel()
        self.requested = True
        for scope in self._scopes:
            scope.cancel()


@dataclass(frozen=True, slots=True)
class Client:
    """One client command while it runs: whom it talks to, and how."""

    peer: Peer
    calling_ae_title: str
    tls: ssl.SSLContext | None
    deadlines: Deadlines
    max_pdu_length: int | None
    terminal: Terminal
    interrupts: Interrupts

    @asynccontextmanager
    async def associate(
        self, contexts: Sequence[Context], *, scp_roles: Iterable[str] = ()
    ) -> AsyncIterator[ClientAssociation]:
        """`open_association`; what keeps it from being established is `CannotAssociate`."""
        async with AsyncExitStack() as stack:
            try:
                association = await stack.enter_async_context(
                    open_association(
                        self.peer,
                        contexts,
                        calling_ae_title=self.calling_ae_title,
                        tls=self.tls,
                        scp_roles=scp_roles,
                        max_pdu_length=self.max_pdu_length,
                        deadlines=self.deadlines,
                    )
                )
            except (AssociationError, LocalProtocolError) as error:
                raise CannotAssociate(self._explain(error)) from error
            self.terminal.detail(
                f"associated with {self.peer}: {len(association.contexts)} of {len(contexts)} "
                "presentation contexts accepted"
            )
            yield association

    def _explain(self, error: IsocenterError) -> str:
        match error:
            case AssociationRejectedError(source=1, reason=7):
                cure = (
                    f"the peer is not called {self.peer.ae_title}; "
                    "give its AE title with -aec, or as AET@HOST:PORT"
                )
            case AssociationRejectedError(source=1, reason=3):
                cure = (
                    f"admit {self.calling_ae_title} at the peer, or call with -aet as an AE title "
                    "that it knows (over TLS: that of the certificate)"
                )
            case AssociationRejectedError(result=2):
                cure = "try again later"
            case TransportLostError() if self.tls is None:
                cure = "does the peer expect TLS on this port (--tls)?"
            case TransportLostError():
                cure = "does the peer want a certificate (--tls-cert, --tls-key)? See its log"
            case _:
                return str(error)
        return f"{error}; {cure}"


def run_client(
    arguments: argparse.Namespace, work: Callable[[Client, list[str]], Awaitable[int]]
) -> int:
    """Run a client command from its options to its exit code.

    Args:
        work: gets the client and the positional arguments behind the peer; its exit code
            is ours.  `UsageError` and `CannotAssociate` are 2, other errors 1, Ctrl-C 130.
    """
    terminal = Terminal.of(arguments)

    async def prepared(interrupts: Interrupts) -> int:
        peer, rest = peer_of(arguments)
        client = Client(
            peer=peer,
            calling_ae_title=arguments.aetitle,
            tls=tls_of(arguments),
            deadlines=deadlines_of(arguments),
            max_pdu_length=arguments.max_pdu,
            terminal=terminal,
            interrupts=interrupts,
        )
        return await work(client, rest)

    return run_task(terminal, prepared)


def run_task(terminal: Terminal, work: Callable[[Interrupts], Awaitable[int]]) -> int:
    """Run *work* under trio: errors as one line, Ctrl-C as `Interrupts`."""
    with terminal:
        try:
            return trio.run(_run, work)
        except (UsageError, CannotAssociate, KeySyntaxError, TlsFileError) as error:
            terminal.error(str(error))
            return EXIT_USAGE
        except IsocenterError as error:
            terminal.error(str(error))
            return EXIT_FAILED
        except BrokenPipeError:
            raise  # whoever read our output has gone
        except OSError as error:
            terminal.error(str(error))
            return EXIT_FAILED
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED


async def _run(work: Callable[[Interrupts], Awaitable[int]]) -> int:
    interrupts = Interrupts()
    failure: Exception | None = None
    code = EXIT_INTERRUPTED
    async with trio.open_nursery() as nursery:
        if threading.current_thread() is threading.main_thread():
            await nursery.start(_obey_signals, interrupts, nursery.cancel_scope)
        try:
            code = await work(interrupts)
        except Exception as error:
            # The nursery would wrap it.
            failure = error
        nursery.cancel_scope.cancel()
    if interrupts.requested:
        return EXIT_INTERRUPTED
    if failure is not None:
        raise failure
    return code


async def _obey_signals(
    interrupts: Interrupts,
    everything: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        task_status.started()
        async for _ in received:
            interrupts.request(everything)
