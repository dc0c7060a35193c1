"""C-ECHO, and how long it takes: Nagle's algorithm and delayed acknowledgements are measured.

A side with Nagle's algorithm (RFC 896) that writes a message in two pieces holds the
second back until the first is acknowledged; a side that delays its acknowledgements
(RFC 1122 4.2.3.2) lets it wait: 40 ms with Linux, up to 200 ms with Windows, for each
message.  Neither is seen while the other side behaves as we do.  So the same C-ECHO is
sent three ways: as we always do; while *we* delay acknowledgements; and in two pieces
with Nagle's algorithm on our side.
"""

from __future__ import annotations

import socket
import statistics
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.dimse.status import Status, describe_status
from isocenter.engine.errors import AssociationError
from isocenter.engine.uid import VERIFICATION
from isocenter.services.diagnostics.doctor.check import CheckResult, Tell, milliseconds
from isocenter.services.diagnostics.doctor.connectivity import PeerTarget
from isocenter.services.diagnostics.doctor.negotiation import associate
from isocenter.services.diagnostics.findings import Finding, Side, error, note, warning
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES
from isocenter.services.errors import ConnectError, NoPresentationContextError, OperationError
from isocenter.services.net.transport import SocketTransport

#: Enough that the median is not an accident; delayed, they take a second.
_ECHOES: Final = 5
#: Delayed acknowledgements wait for at least 40 ms with all systems that are known.
_STALL_SECONDS: Final = 0.030
_SLOW_SECONDS: Final = 0.100
#: The first fragment is cut off behind the header of the PDU, as many programs write it.
_FIRST_PIECE: Final = 6
_TCP_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)


class TimingTransport(SocketTransport):
    """A socket that can behave as those of other programs do.

    Attributes:
        delays_acknowledgements: acknowledge late, as TCP does by itself.
        in_pieces: write each message in two pieces, with Nagle's algorithm.
    """

    delays_acknowledgements = False
    in_pieces = False

    def configure(self, *, delays_acknowledgements: bool = False, in_pieces: bool = False) -> None:
        """From now on."""
        self.delays_acknowledgements = delays_acknowledgements
        self.in_pieces = in_pieces
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(not in_pieces))

    async def _wait_readable(self) -> None:
        if not self.delays_acknowledgements or _TCP_QUICKACK is None:
            await super()._wait_readable()
            return
        with suppress(OSError):
            self._socket.setsockopt(socket.IPPROTO_TCP, _TCP_QUICKACK, 0)
        with suppress(trio.ClosedResourceError):
            await trio.lowlevel.wait_readable(self._socket)

    def send_now(self, buffers: Sequence[Buffer], is_followed: bool = False) -> Sequence[Buffer]:
        whole = b"".join(buffers)
        if not self.in_pieces or len(whole) <= _FIRST_PIECE:
            return super().send_now(buffers, is_followed)
        rest = super().send_now([whole[:_FIRST_PIECE]])
        return super().send_now([*rest, whole[_FIRST_PIECE:]])


async def check_echo(way: PeerTarget, tell: Tell) -> bool:
    """C-ECHO in three ways; whether it works."""
    try:
        # The transport below TLS is the one that behaves; TLS writes through it.
        made: list[TimingTransport] = []

        class Made(TimingTransport):
            def __init__(self, sock: socket.socket, peer_address: str | None = None) -> None:
                super().__init__(sock, peer_address)
                made.append(self)

        transport = await way.open(Made)
        async with associate(way, [(VERIFICATION, BASIC_SYNTAXES)], transport) as association:
            plain = made[0]
            statuses: list[int] = []

            async def median() -> float:
                taken = []
                for _ in range(_ECHOES):
                    began = trio.current_time()
                    try:
                        statuses.append(await association.echo())
                    except OperationError as fault:
                        statuses.append(fault.status)
                    taken.append(trio.current_time() - began)
                return statistics.median(taken)

            prompt = await median()
            plain.configure(delays_acknowledgements=True)
            delayed = await median()
            plain.configure(in_pieces=True)
            pieces = await median()
    except (AssociationError, NoPresentationContextError, ConnectError) as fault:
        finding = error(f"C-ECHO failed: {fault}", "PS3.7 9.1.5", side=Side.PEER)
        tell(CheckResult("C-ECHO", "no answer", (finding,)))
        return False
    wrong = [status for status in statuses if status != Status.SUCCESS]
    findings: list[Finding] = []
    if wrong:
        findings.append(
            error(
                f"the peer answered {wrong[0]:04X}H {describe_status(wrong[0])}",
                "PS3.7 9.1.5",
                "see the log of the peer",
                side=Side.PEER,
            )
        )
    findings += _slowness(prompt, delayed, pieces)
    tell(
        CheckResult(
            "C-ECHO",
            f"{milliseconds(prompt)}; {milliseconds(delayed)} with delayed acknowledgements, "
            f"{milliseconds(pieces)} in pieces with Nagle's algorithm",
            tuple(findings),
            facts={
                "median_ms": round(1000 * prompt, 3),
                "delayed_acknowledgements_ms": round(1000 * delayed, 3),
                "in_pieces_ms": round(1000 * pieces, 3),
            },
        )
    )
    return not wrong


def _slowness(prompt: float, delayed: float, pieces: float) -> list[Finding]:
    found: list[Finding] = []
    if delayed - prompt > _STALL_SECONDS:
        found.append(
            warning(
                f"the peer's answer waits {milliseconds(delayed - prompt)} for our acknowledgement",
                "RFC 896",
                "switch TCP_NODELAY on (DCMTK: the environment variable TCP_NODELAY=1; registry or "
                "socket option elsewhere)",
                meaning="it writes a message in pieces, with Nagle's algorithm: each of its "
                "messages costs every peer that delays acknowledgements as much; Isocenter "
                "acknowledges at once on Linux and does not feel it",
                side=Side.PEER,
            )
        )
    if pieces - prompt > _STALL_SECONDS:
        found.append(
            note(
                f"the peer acknowledges {milliseconds(pieces - prompt)} late",
                "RFC 1122 4.2.3.2",
                "give the programs that send to it TCP_NODELAY; Isocenter has it",
                meaning="that is what TCP does by itself; programs with Nagle's algorithm that "
                "write in pieces lose as much with each message that they send to it",
                side=Side.EITHER,
            )
        )
    if prompt > _SLOW_SECONDS:
        found.append(
            warning(
                f"an answer takes {milliseconds(prompt)}",
                meaning="an echo is the least that a peer can do; each object takes longer",
                cure="compare with the time of the TCP connection above: if that is short, the "
                "peer is busy or slow; if not, it is the way",
                side=Side.EITHER,
            )
        )
    return found
