"""Connectivity check: name, port and TLS of a peer."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import field
from datetime import UTC, datetime
from typing import Final

import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from isocenter.engine.deadlines import Deadlines
from isocenter.engine.fast_init import dataclass
from isocenter.engine.negotiation import associate_request
from isocenter.engine.pdu import PduType, encode_associate_request
from isocenter.engine.uid import IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from isocenter.services.association.peer import Peer
from isocenter.services.diagnostics.doctor.certificates import date_findings, names_of
from isocenter.services.diagnostics.doctor.check import CheckResult, Tell, milliseconds
from isocenter.services.diagnostics.doctor.tls_probe import (
    SAFE_VERSIONS,
    VERSIONS,
    TlsProbe,
    probe_of,
    probe_tls,
)
from isocenter.services.diagnostics.findings import Finding, Side, error, note, warning
from isocenter.services.errors import ConnectError, text_of
from isocenter.services.net.connect import connect
from isocenter.services.net.peer_identity import owns_ae_title
from isocenter.services.net.tls.certificates import identity_of
from isocenter.services.net.tls.errors import describe_tls_error
from isocenter.services.net.tls.transport import TlsTransport, tls_transport
from isocenter.services.net.transport import (
    SocketTransport,
    Transport,
)

#: A handshake of TCP within one building takes less.
_SLOW_CONNECT_SECONDS: Final = 0.2
_ANSWERS: Final = frozenset({PduType.A_ASSOCIATE_AC, PduType.A_ASSOCIATE_RJ, PduType.A_ABORT})


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerTarget:
    """How the peer is reached.

    Attributes:
        tls: what to shake hands with; None: in the clear.
        trusts_anybody: whether *tls* verifies nothing.
        is_self: the peer is the archive here, whose policy is the operator's own.
    """

    peer: Peer
    calling_ae_title: str
    tls: ssl.SSLContext | None
    deadlines: Deadlines = field(default_factory=Deadlines)
    max_pdu_length: int | None = None
    is_self: bool = False

    @property
    def trusts_anybody(self) -> bool:
        return self.tls is not None and self.tls.verify_mode is ssl.CERT_NONE

    async def open(self, transport: type[SocketTransport] = SocketTransport) -> Transport:
        """A connection that stands, with TLS if there is to be any.

        Raises:
            ConnectError: there is none.
        """
        if transport is SocketTransport:
            return await connect(
                self.peer.host, self.peer.port, self.tls, self.deadlines, self.peer.tls_name
            )
        plain = transport(await self._connect())
        if self.tls is None:
            return plain
        try:
            with trio.fail_after(self.deadlines.tls_handshake):
                return await tls_transport(
                    plain, self.tls, server_side=False, server_hostname=self.peer.tls_name
                )
        except (trio.BrokenResourceError, trio.TooSlowError) as fault:
            raise ConnectError(f"TLS handshake failed: {describe_tls_error(fault)}") from fault

    async def _connect(self) -> socket.socket:
        try:
            with trio.fail_after(self.deadlines.connect):
                stream = await trio.open_tcp_stream(self.peer.host, self.peer.port)
        except (OSError, trio.TooSlowError) as fault:
            raise ConnectError(f"cannot connect to {self.peer}: {fault}") from fault
        return socket.socket(fileno=stream.socket.detach())


async def check_connection(way: PeerTarget, tell: Tell) -> bool:
    """Name, TCP and TLS; whether the peer was reached."""
    if not await _check_name(way, tell):
        return False
    if not await _check_tcp(way, tell):
        return False
    return way.tls is None or await _check_tls(way, tell)


async def _check_name(way: PeerTarget, tell: Tell) -> bool:
    peer = way.peer
    try:
        found = await trio.socket.getaddrinfo(peer.host, peer.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as fault:
        text = text_of(fault)
        finding = error(
            f"the name {peer.host} stands for no address: {text}",
            meaning="there is nobody to connect to",
            cure="check the name, and the DNS settings of this machine; or give an address",
            side=Side.HERE,
        )
        tell(CheckResult("host", peer.host, (finding,)))
        return False
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    tell(CheckResult("host", ", ".join(addresses), facts={"addresses": addresses}))
    return True


async def _check_tcp(way: PeerTarget, tell: Tell) -> bool:
    peer = way.peer
    where = f"{peer.host}:{peer.port}"
    began = trio.current_time()
    try:
        transport = await connect(peer.host, peer.port, None, way.deadlines)
    except ConnectError as fault:
        tell(CheckResult("TCP", where, (_tcp_finding(fault),)))
        return False
    seconds = trio.current_time() - began
    await transport.aclose()
    findings: tuple[Finding, ...] = ()
    if seconds > _SLOW_CONNECT_SECONDS:
        findings = (
            note(
                f"the connection took {milliseconds(seconds)}",
                meaning="each association costs that at least three times",
                cure="look at the way between the two: distance, a VPN, a proxy, lost packets",
                side=Side.BETWEEN,
            ),
        )
    facts = {"connect_ms": round(1000 * seconds, 3)}
    tell(
        CheckResult(
            "TCP", f"connected to {where} in {milliseconds(seconds)}", findings, facts=facts
        )
    )
    return True


def _tcp_finding(fault: ConnectError) -> Finding:
    cause = fault.__cause__
    text, _, advice = str(fault).partition("; ")
    if isinstance(cause, OSError) and "refused" in text:
        return error(
            text,
            meaning="the machine is there, and nothing listens on this port",
            cure="start the DICOM server there, or give its port; a firewall may refuse as well",
            side=Side.PEER,
        )
    if cause is None:
        return error(
            text,
            meaning="packets vanish: no machine has the address, or a firewall drops them",
            cure="check the address, then the firewalls on the way and at the peer",
            side=Side.BETWEEN,
        )
    return error(text, cure=advice or "check address, route and firewall", side=Side.BETWEEN)


# -- TLS ---------------------------------------------------------------------------------


async def _check_tls(way: PeerTarget, tell: Tell) -> bool:
    peer = way.peer
    began = trio.current_time()
    try:
        transport = await connect(peer.host, peer.port, way.tls, way.deadlines, peer.tls_name)
    except ConnectError as fault:
        await _explain_handshake(way, fault, tell)
        return False
    took = trio.current_time() - began
    assert isinstance(transport, TlsTransport)
    seen = probe_of(transport.tls)
    await transport.aclose()
    findings = list(_certificate_findings(way, seen, datetime.now(UTC)))
    if way.trusts_anybody:
        findings.append(
            warning(
                "the peer's certificate was not verified",
                meaning="whoever can redirect the connection reads and changes everything",
                cure="give its CA with --tls-ca, and leave --tls-no-verify out",
                side=Side.HERE,
            )
        )
    tell(
        CheckResult(
            "TLS",
            f"{seen.version}, {seen.suite}, in {milliseconds(took)}",
            tuple(findings),
            _chain_lines(seen),
            {
                "version": seen.version,
                "suite": seen.suite,
                "handshake_ms": round(1000 * took, 3),
            },
        )
    )
    return True


async def _explain_handshake(way: PeerTarget, fault: ConnectError, tell: Tell) -> None:
    peer, seconds = way.peer, way.deadlines.tls_handshake
    text = str(fault).partition("TLS handshake failed: ")[2] or str(fault)
    text, _, cure = text.partition("; ")
    seen = await probe_tls(peer, seconds)
    findings: list[Finding]
    if not seen.speaks_tls and await speaks_dicom_in_the_clear(way):
        findings = [
            error(
                "the peer speaks DICOM in the clear on this port",
                meaning="a TLS handshake gets no answer there",
                cure="leave --tls out; or switch TLS on at the peer, or give its TLS port",
                side=Side.EITHER,
            )
        ]
    else:
        findings = [error(f"the handshake failed: {text}", cure=cure, side=_side_of(text))]
        if seen.chain:
            findings += _certificate_findings(way, seen, datetime.now(UTC))
        else:
            findings += await _version_findings(way)
    tell(CheckResult("TLS", f"no handshake with {peer.host}:{peer.port}", tuple(findings),
                  _chain_lines(seen)))  # fmt: skip


def _side_of(text: str) -> Side:
    """Where the cure of `describe_tls_error` has to be applied."""
    if text.startswith("the peer's certificate was refused"):
        return Side.HERE if "unknown here" in text or "not trusted here" in text else Side.PEER
    if "our certificate" in text or "certificate of ours" in text:
        return Side.HERE
    return Side.EITHER


async def _version_findings(way: PeerTarget) -> list[Finding]:
    """Which versions of TLS the peer would have shaken hands with."""
    accepted = []
    for version in VERSIONS:
        look = await probe_tls(way.peer, way.deadlines.tls_handshake, [version])
        if look.version:
            accepted.append(version)
    if not accepted:
        return []
    if not set(accepted) & set(SAFE_VERSIONS):
        return [
            error(
                f"the peer speaks {' and '.join(accepted)} only",
                "RFC 8996",
                "update the peer to TLS 1.2 or 1.3; until then, a TLS proxy in front of it",
                meaning="these versions are broken, and we never speak them",
                side=Side.PEER,
            )
        ]
    return [note(f"the peer speaks {' and '.join(accepted)}")]


def _certificate_findings(way: PeerTarget, seen: TlsProbe, now: datetime) -> Iterator[Finding]:
    """What is wrong with the certificates that the peer showed."""
    if not seen.chain:
        return
    own = seen.chain[0]
    yield from date_findings(own, "the peer's certificate", now, Side.PEER)
    for issuer in seen.chain[1:]:
        name = issuer.subject.rfc4514_string()
        yield from date_findings(issuer, f"the CA {name} of the peer", now, Side.PEER)
    names = names_of(own)
    if way.tls is not None and way.tls.check_hostname and not _covers(way.peer.tls_name, own):
        yield error(
            f"the peer's certificate is for {', '.join(names) or 'no host at all'}, "
            f"and not for {way.peer.tls_name}",
            "RFC 9525",
            "connect by a name that is in it, have one issued for this name, say whose it has to "
            "be (--tls-server-name), or --tls-any-host",
            meaning="we cannot know that it is this machine whom we talk to",
            side=Side.EITHER,
        )
    if own.issuer == own.subject:
        yield note(
            "the peer's certificate is self-signed",
            meaning="it can be trusted only by itself, and never be revoked",
            cure="use one that a CA has signed",
            side=Side.PEER,
        )
    identity = identity_of(own.public_bytes(Encoding.DER))
    if not owns_ae_title(identity, way.peer.ae_title):
        yield note(
            f"the peer's certificate ({identity.common_name or 'no common name'}) is not for its "
            f"AE title {way.peer.ae_title}",
            meaning="an Isocenter rejects it where it calls with this AE title",
            cure="isocenter certs issue NAME --ae-title AET, or tls.identity any",
            side=Side.EITHER,
        )


def _covers(host: str, certificate: x509.Certificate) -> bool:
    """Whether a name in *certificate* is for *host*, a wild card counting for one label."""
    wanted = host.strip("[]").lower()
    for name in names_of(certificate):
        name = name.lower()
        if name == wanted:
            return True
        if name.startswith("*.") and wanted.partition(".")[2] == name[2:]:
            return True
    return False


def _chain_lines(seen: TlsProbe) -> tuple[str, ...]:
    return tuple(
        f"{certificate.subject.rfc4514_string()} issued by "
        f"{certificate.issuer.rfc4514_string()}, {certificate.not_valid_before_utc.date()} to "
        f"{certificate.not_valid_after_utc.date()}"
        for certificate in seen.chain
    )


async def speaks_dicom_in_the_clear(way: PeerTarget) -> bool:
    """Whether an A-ASSOCIATE-RQ in the clear gets a PDU as its answer."""
    request = associate_request(
        way.peer.ae_title, way.calling_ae_title, [(VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN,))]
    )
    with trio.move_on_after(way.deadlines.tls_handshake):
        try:
            async with await trio.open_tcp_stream(way.peer.host, way.peer.port) as stream:
                await stream.send_all(encode_associate_request(request))
                answer = await stream.receive_some()
                return bool(answer) and answer[0] in _ANSWERS
        except (OSError, trio.BrokenResourceError):
            return False
    return False
