"""`isocenter doctor PEER` with peers that are well, and with each way of being broken."""

from __future__ import annotations

import signal
import socket
import ssl
import sys
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio

from isocenter.engine.negotiation import Offer
from isocenter.engine.uid import IMPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.association.access import AeTitleRules
from isocenter.services.diagnostics.doctor.echo_latency import _slowness
from isocenter.services.diagnostics.findings import Severity, Side
from isocenter.services.dicom.uid_registry import STUDY_ROOT_FIND
from isocenter.services.net.listeners import ListenAddress
from isocenter.services.net.tls.contexts import TlsFiles, client_context, server_context
from isocenter.services.security.certificates.authority import CertificateAuthority
from services.diagnostics.doctor.examining import (
    IMPATIENT,
    Found,
    examined,
    listening,
    way_to,
    writing_in_pieces,
)
from support.ports import free_port
from support.processes import ISOCENTER, START_SECONDS, program, wait_for_line
from support.serving import Scripted, port_of, serving

CT = "1.2.840.10008.5.1.4.1.1.2"
NOW = datetime.now(UTC)
DAY = timedelta(days=1)
STEPS = [
    "host", "TCP", "association", "C-ECHO", "services", "storage", "transfer syntaxes",
]  # fmt: skip

pytestmark = pytest.mark.slow


async def nothing(_: object) -> None:
    await trio.sleep_forever()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="module")
def ca(folder: Path) -> CertificateAuthority:
    # Older than what it has issued: also what has expired by now.
    authority = CertificateAuthority.create(folder / "ca", now=NOW - 2000 * DAY)
    hosts = ["127.0.0.1", "localhost"]
    authority.issue("ISOCENTER", hosts=hosts, folder=folder)
    authority.issue("DOCTOR", hosts=hosts, folder=folder)
    authority.issue("old", ae_title="ISOCENTER", hosts=hosts, folder=folder, now=NOW - 1000 * DAY)
    authority.issue("soon", ae_title="ISOCENTER", hosts=hosts, folder=folder, now=NOW - 800 * DAY)
    authority.issue("other", ae_title="ISOCENTER", hosts=["archive.example"], folder=folder)
    return authority


def files(ca: CertificateAuthority, folder: Path, name: str) -> TlsFiles:
    return TlsFiles(
        certificate=folder / f"{name}.crt", key=folder / f"{name}.key", ca=ca.certificate_path
    )


def raw_server_context(folder: Path, name: str) -> ssl.SSLContext:
    """A server that looks at nothing, its own certificate neither."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
    return context


def bind(context: ssl.SSLContext) -> Sequence[ListenAddress]:
    return [ListenAddress(host="127.0.0.1", port=0, tls=lambda: context)]


# -- The way -----------------------------------------------------------------------------


async def test_a_peer_that_is_well_has_no_problem() -> None:
    service = Scripted([CT, STUDY_ROOT_FIND], nothing)
    async with serving(service) as server:
        found = await examined(way_to(port_of(server)))
    assert [one.what for one in found] == STEPS
    assert found.problems == []
    assert found.named("association").facts["max_pdu_length"] == 131_072
    assert found.named("storage").facts["accepted"] == [CT]
    assert found.named("transfer syntaxes").facts["accepted"] == [
        "1.2.840.10008.1.2.1", "1.2.840.10008.1.2",
    ]  # fmt: skip


async def test_nobody_listens() -> None:
    found = await examined(way_to(free_port()))
    assert [one.what for one in found] == ["host", "TCP"]
    (finding,) = found.problems
    assert "connection refused" in finding.text
    assert finding.side is Side.PEER


async def test_a_name_that_nobody_has() -> None:
    found = await examined(way_to(104, host="no-such-host.invalid"))
    (finding,) = found.problems
    assert "stands for no address" in finding.text
    assert finding.side is Side.HERE


async def test_a_peer_that_takes_the_connection_and_says_nothing() -> None:
    async with listening(nothing) as port:
        found = await examined(way_to(port, deadlines=IMPATIENT))
    (finding,) = found.problems
    assert "no answer to A-ASSOCIATE-RQ" in finding.text
    assert "says nothing" in finding.meaning


async def test_a_web_server() -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with listening(handle) as port:
        found = await examined(way_to(port, deadlines=IMPATIENT))
    (finding,) = found.problems
    assert "no DICOM" in finding.text
    assert "web server" in finding.cure


async def test_a_peer_that_closes_at_once() -> None:
    async def handle(stream: trio.SocketStream) -> None:
        await stream.receive_some()

    async with listening(handle) as port:
        found = await examined(way_to(port, deadlines=IMPATIENT))
    (finding,) = found.problems
    assert "closed instead of answering" in finding.text
    assert finding.side is Side.PEER


# -- AE titles ---------------------------------------------------------------------------


async def rejected(access: AeTitleRules) -> Found:
    async with serving(access=access) as server:
        return await examined(way_to(port_of(server)))


async def test_a_called_ae_title_that_the_peer_does_not_have() -> None:
    found = await rejected(AeTitleRules(ae_titles=frozenset({"PACS"})))
    (finding,) = found.problems
    assert "called AE title not recognized" in finding.text
    assert finding.meaning == "the peer is not called ISOCENTER"
    assert finding.clause == "PS3.8 9.3.4"


async def test_a_calling_ae_title_that_the_peer_does_not_admit() -> None:
    found = await rejected(AeTitleRules(allow=("CT1",)))
    (finding,) = found.problems
    assert "calling AE title not recognized" in finding.text
    assert "admit DOCTOR" in finding.cure


# -- What it accepts ---------------------------------------------------------------------


async def test_each_refused_context_is_named_with_the_reason() -> None:
    async with serving(Scripted([STUDY_ROOT_FIND], nothing)) as server:
        found = await examined(way_to(port_of(server)))
    services = found.named("services")
    assert services.severity is Severity.NOTE, "not to serve something is no fault"
    (finding,) = services.findings
    assert finding.text.startswith("abstract syntax not supported: ")
    assert found.named("storage").seen.startswith("0 of ")
    assert any("Modality Worklist" in line for line in services.details)
    assert found.problems == []


async def test_a_peer_without_the_default_transfer_syntax() -> None:
    service = Scripted([CT], nothing)
    service._offer = Offer(transfer_syntaxes=("1.2.840.10008.1.2.4.50",))
    async with serving(service) as server:
        found = await examined(way_to(port_of(server)))
    (finding,) = found.problems
    assert finding.text == "implicit VR little endian is not accepted"
    assert finding.clause == "PS3.5 10.1"


async def test_thoroughly_each_sop_class_has_transfer_syntaxes_of_its_own() -> None:
    one, other = Scripted([CT], nothing), Scripted(["1.2.840.10008.5.1.4.1.1.4"], nothing)
    other._offer = Offer(transfer_syntaxes=(IMPLICIT_VR_LITTLE_ENDIAN,))
    async with serving(one, other) as server:
        found = await examined(way_to(port_of(server)), thorough=True)
    groups = {
        tuple(each.facts["sop_classes"]): len(each.facts["accepted"])  # type: ignore[arg-type]
        for each in found
        if each.what == "transfer syntaxes"
    }
    assert groups == {(CT,): 2, ("1.2.840.10008.5.1.4.1.1.4",): 1}


# -- TLS ---------------------------------------------------------------------------------


async def test_a_peer_over_tls_that_is_well(ca: CertificateAuthority, folder: Path) -> None:
    context = server_context(files(ca, folder, "ISOCENTER"))
    ours = client_context(files(ca, folder, "DOCTOR"))
    async with serving(Scripted([CT], nothing), addresses=bind(context)) as server:
        found = await examined(way_to(port_of(server, tls=True), tls=ours))
    assert found.problems == []
    assert [one.what for one in found] == [*STEPS[:2], "TLS", *STEPS[2:]]
    tls = found.named("TLS")
    assert "TLSv1.3" in tls.seen
    assert "CN=ISOCENTER" in tls.details[0]


async def test_tls_here_and_in_the_clear_there() -> None:
    ours = ssl.create_default_context()
    async with serving() as server:
        found = await examined(way_to(port_of(server), tls=ours))
    (finding,) = found.problems
    assert finding.text == "the peer speaks DICOM in the clear on this port"


async def test_in_the_clear_here_and_tls_there(ca: CertificateAuthority, folder: Path) -> None:
    context = server_context(files(ca, folder, "ISOCENTER"))
    async with serving(addresses=bind(context)) as server:
        found = await examined(way_to(port_of(server, tls=True)))
    (finding,) = found.problems
    assert finding.text == "the peer speaks TLS on this port"
    assert finding.side is Side.HERE


async def tls_with(ca: CertificateAuthority, folder: Path, name: str) -> Found:
    ours = client_context(files(ca, folder, "DOCTOR"))
    context = raw_server_context(folder, name)
    async with serving(Scripted([CT], nothing), addresses=bind(context)) as server:
        return await examined(way_to(port_of(server, tls=True), tls=ours))


async def test_a_certificate_that_has_expired(ca: CertificateAuthority, folder: Path) -> None:
    found = await tls_with(ca, folder, "old")
    assert found[-1].what == "TLS", "it goes no further"
    assert "expired on" in found.texts
    assert all(finding.side is Side.PEER for finding in found.problems)


async def test_a_certificate_that_ends_soon(ca: CertificateAuthority, folder: Path) -> None:
    found = await tls_with(ca, folder, "soon")
    (finding,) = found.problems
    assert finding.severity is Severity.WARNING
    assert "the peer's certificate ends in 2" in finding.text
    assert found[-1].what == "transfer syntaxes", "it works today"


async def test_a_certificate_for_another_host(ca: CertificateAuthority, folder: Path) -> None:
    found = await tls_with(ca, folder, "other")
    assert "archive.example, and not for 127.0.0.1" in found.texts
    assert found[-1].what == "TLS"


async def test_a_certificate_of_a_ca_that_we_do_not_trust(
    ca: CertificateAuthority, folder: Path, tmp_path: Path
) -> None:
    foreign = CertificateAuthority.create(tmp_path / "ca")
    foreign.issue("ISOCENTER", hosts=["127.0.0.1"], folder=tmp_path)
    ours = client_context(files(ca, folder, "DOCTOR"))
    context = raw_server_context(tmp_path, "ISOCENTER")
    async with serving(addresses=bind(context)) as server:
        found = await examined(way_to(port_of(server, tls=True), tls=ours))
    assert "its issuer is unknown here" in found.texts
    assert found.problems[0].side is Side.HERE


async def test_a_peer_that_wants_a_certificate_of_ours(
    ca: CertificateAuthority, folder: Path
) -> None:
    ours = client_context(TlsFiles(ca=ca.certificate_path))
    context = server_context(files(ca, folder, "ISOCENTER"))
    async with serving(addresses=bind(context)) as server:
        found = await examined(way_to(port_of(server, tls=True), tls=ours))
    (finding,) = found.problems
    assert "--tls-cert" in finding.cure


async def test_an_ae_title_that_our_certificate_does_not_own(
    ca: CertificateAuthority, folder: Path
) -> None:
    ours = client_context(files(ca, folder, "DOCTOR"))
    context = server_context(files(ca, folder, "ISOCENTER"))
    async with serving(addresses=bind(context)) as server:
        found = await examined(way_to(port_of(server, tls=True), tls=ours, calling="CT9"))
    (finding,) = found.problems
    assert "calling AE title not recognized" in finding.text
    assert "our certificate is for" in finding.cure


async def test_a_peer_that_speaks_old_versions_only(ca: CertificateAuthority, folder: Path) -> None:
    old = raw_server_context(folder, "ISOCENTER")
    old.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1
    ours = client_context(files(ca, folder, "DOCTOR"))
    async with serving(addresses=bind(old)) as server:
        found = await examined(way_to(port_of(server, tls=True), tls=ours))
    assert "the peer speaks TLS 1.0 only" in found.texts
    assert any(finding.clause == "RFC 8996" for finding in found.problems)


async def test_whoever_verifies_nothing_is_told(ca: CertificateAuthority, folder: Path) -> None:
    ours = client_context(files(ca, folder, "DOCTOR"), verify=False)
    context = server_context(files(ca, folder, "ISOCENTER"))
    async with serving(addresses=bind(context)) as server:
        found = await examined(way_to(port_of(server, tls=True), tls=ours))
    (finding,) = found.problems
    assert "was not verified" in finding.text


# -- How long it takes -------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="delayed acknowledgements are made on Linux")
async def test_nagles_algorithm_at_the_peer_is_measured() -> None:
    async with serving() as server, writing_in_pieces(port_of(server), nagle=True) as port:
        found = await examined(way_to(port))
    (finding,) = found.problems
    assert finding.clause == "RFC 896"
    assert finding.side is Side.PEER
    facts = found.named("C-ECHO").facts
    assert float(str(facts["delayed_acknowledgements_ms"])) > 30


async def test_pieces_without_nagles_algorithm_are_no_problem() -> None:
    async with serving() as server, writing_in_pieces(port_of(server), nagle=False) as port:
        found = await examined(way_to(port))
    assert found.problems == []


def test_a_slow_peer_is_told_apart_from_one_that_waits() -> None:
    assert [finding.clause for finding in _slowness(0.001, 0.002, 0.001)] == []
    assert [finding.clause for finding in _slowness(0.001, 0.041, 0.001)] == ["RFC 896"]
    assert [finding.clause for finding in _slowness(0.001, 0.001, 0.201)] == ["RFC 1122 4.2.3.2"]
    (slow,) = _slowness(0.150, 0.151, 0.152)
    assert "takes 150.0 ms" in slow.text


# -- When asked for ----------------------------------------------------------------------


async def test_what_is_asked_for_and_not_served() -> None:
    async with serving() as server:
        found = await examined(way_to(port_of(server)), find=True, store=True)
    assert "did not accept Study Root" in found.named("C-FIND").findings[0].text
    assert "no presentation context" in found.named("C-STORE").findings[0].text


def test_ctrl_c_ends_it_cleanly(tmp_path: Path) -> None:
    """While it waits for the answer of a peer that says nothing."""
    log = tmp_path / "doctor.log"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        peer = f"SILENT@127.0.0.1:{silent.getsockname()[1]}"
        with program(*ISOCENTER, "doctor", peer, log=log) as process:
            wait_for_line(process, r"^ok +TCP", log)
            process.send_signal(signal.SIGINT)
            assert process.wait(START_SECONDS) == 130
    assert "Traceback" not in log.read_text()
    assert "problem" not in log.read_text(), "no summary of what was not examined"
