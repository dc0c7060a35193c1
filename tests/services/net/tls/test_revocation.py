"""Certificates that are revoked while their associations stand."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from isocenter.engine.dimse.message_codec import CEchoResponse
from isocenter.engine.errors import AssociationAbortedError, AssociationError
from isocenter.engine.uid import IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from isocenter.services.association.operation import Operation
from isocenter.services.association.peer import Peer
from isocenter.services.association.server import Server, serve
from isocenter.services.association.service_registry import ServiceRegistry
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES
from isocenter.services.net.listeners import ListenAddress
from isocenter.services.net.tls.contexts import TlsFiles, client_context, server_context
from isocenter.services.net.tls.revocation import Revocations
from isocenter.services.notices import AssociationRevoked, Notice, Notices
from isocenter.services.security.certificates.authority import CertificateAuthority
from isocenter.services.security.certificates.profile import build_crl, build_leaf, key_pem
from isocenter.services.security.certificates.server_certificate import ensure_server_certificate
from isocenter.services.service_classes.client import ClientAssociation, open_association
from services.cli_support import Scripted
from support.processes import ServedArchive, isocenter_command, served_archive, wait_until

NOW = datetime.now(UTC)
PATIENCE = 60.0


def _ca(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, signer: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    usage = dict.fromkeys(
        (
            "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
            "key_agreement", "encipher_only", "decipher_only",
        ),
        False,
    )  # fmt: skip
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(hours=1))
        .not_valid_after(NOW + timedelta(days=100))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage, key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )


class Pki:
    """A root, an intermediate CA, and a leaf of it."""

    def __init__(self) -> None:
        self.keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
        root_key, middle_key, leaf_key = self.keys
        self.root = _ca("Root", root_key, "Root", root_key)
        self.middle = _ca("Middle", middle_key, "Root", root_key)
        self.leaf = build_leaf(self.middle, middle_key, "CT1", [], leaf_key.public_key(), NOW)

    @property
    def chain(self) -> list[bytes]:
        return [one.public_bytes(Encoding.DER) for one in (self.leaf, self.middle, self.root)]

    def crl(self, issuer: int, *revoked: x509.Certificate) -> x509.CertificateRevocationList:
        ca = (self.root, self.middle)[issuer]
        return build_crl(ca, self.keys[issuer], [(one.serial_number, NOW) for one in revoked], NOW)


def test_the_peer_and_every_ca_between_are_looked_for() -> None:
    pki = Pki()
    assert Revocations([pki.crl(0), pki.crl(1)]).revoked_in(pki.chain) == ""
    text = Revocations([pki.crl(1, pki.leaf)]).revoked_in(pki.chain)
    assert text == "its certificate (CN=CT1)"
    text = Revocations([pki.crl(1), pki.crl(0, pki.middle)]).revoked_in(pki.chain)
    assert text == "the CA CN=Middle"
    # By serial number and issuer, not by one of them.
    assert Revocations([pki.crl(0, pki.leaf)]).revoked_in(pki.chain) == ""
    # Where the chain that is known ends before the CA, its list is believed as well.
    assert Revocations([pki.crl(1, pki.leaf)]).revoked_in(pki.chain[:1])
    assert Revocations().revoked_in(pki.chain) == ""
    assert Revocations([pki.crl(1, pki.leaf)]).revoked_in([b"no certificate"]) == ""
    assert Revocations([pki.crl(1, pki.leaf)]).revoked_in([]) == ""


def test_a_list_that_its_ca_has_not_signed_counts_for_nothing() -> None:
    pki, other = Pki(), Pki()
    forged = build_crl(pki.middle, other.keys[1], [(pki.leaf.serial_number, NOW)], NOW)
    assert Revocations([forged]).revoked_in(pki.chain) == ""


class Serving:
    """A server over mutual TLS whose one operation ends when a test says so."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = CertificateAuthority.create(folder / "ca")
        self.server: Server | None = None
        self.told: list[Notice] = []
        self.go_on = trio.Event()
        self.begun = trio.Event()
        self.performed = 0

    async def perform(self, operation: Operation) -> None:
        self.begun.set()
        await self.go_on.wait()
        self.performed += 1
        request = operation.request
        await operation.respond(
            CEchoResponse(
                message_id_being_responded_to=request.message_id,
                affected_sop_class_uid=VERIFICATION,
                status=0,
            )
        )

    @asynccontextmanager
    async def running(self, context: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
        files = ensure_server_certificate(self.ca.directory, "ISOCENTER")
        tls = context or server_context(
            TlsFiles(certificate=files.certificate, key=files.key, ca=files.ca)
        )
        bind = ListenAddress(host="127.0.0.1", port=0, tls=lambda: tls)
        notices = Notices(self.told.append)
        async with trio.open_nursery() as nursery:
            registry = ServiceRegistry((Scripted(self.perform, VERIFICATION),))
            self.server = await nursery.start(
                lambda task_status: serve(
                    registry, [bind], notices=notices, operations_window=4, task_status=task_status
                )
            )
            yield self.server
            nursery.cancel_scope.cancel()

    def client(self, name: str) -> ssl.SSLContext:
        issued = self.ca.issue(name)
        folder = issued.folder
        return client_context(
            TlsFiles(
                certificate=folder / f"{name}.crt",
                key=folder / f"{name}.key",
                ca=folder / "ca.crt",
            )
        )

    def calling(self, name: str, tls: ssl.SSLContext) -> object:
        assert self.server is not None
        peer = Peer("ISOCENTER", "127.0.0.1", self.server.addresses[0][1], tls=True)
        return open_association(
            peer, [(VERIFICATION, BASIC_SYNTAXES)], calling_ae_title=name, tls=tls,
            operations_window=4,
        )  # fmt: skip

    def revoked(self) -> Revocations:
        return Revocations.read(self.ca.crl_path)


async def _wait_for_end(association: ClientAssociation) -> None:
    with trio.fail_after(PATIENCE):
        await association.ended.wait()


async def test_the_operation_under_way_is_answered_and_nothing_after_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    serving = Serving(tmp_path)
    first, other = serving.client("CT1"), serving.client("CT2")
    answers: dict[str, object] = {}

    async def echo(association: ClientAssociation, which: str) -> None:
        try:
            answers[which] = await association.echo()
        except AssociationError as error:
            answers[which] = error

    async def stand(task_status: trio.TaskStatus[ClientAssociation]) -> None:
        with suppress(AssociationAbortedError):
            async with serving.calling("CT1", first) as association:
                task_status.started(association)
                await association.ended.wait()

    async with (
        serving.running() as server,
        trio.open_nursery() as nursery,
        serving.calling("CT2", other) as stays,
    ):
        ends = await nursery.start(stand)
        nursery.start_soon(echo, ends, "under way")
        with trio.fail_after(PATIENCE):
            await serving.begun.wait()
        serving.ca.revoke("CT1")
        nursery.start_soon(server.end_revoked, serving.revoked().revoked_in)
        await trio.testing.wait_all_tasks_blocked(0.01)
        # Asked for after it was revoked: never performed.
        nursery.start_soon(echo, ends, "later")
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not ends.ended.is_set()
        serving.go_on.set()
        await _wait_for_end(ends)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert serving.performed == 1
        assert answers["under way"] == 0
        assert isinstance(answers["later"], AssociationError)
        assert isinstance(ends.end_reason(), AssociationAbortedError)
        assert await stays.echo() == 0
        (told,) = [one for one in serving.told if isinstance(one, AssociationRevoked)]
        assert told.caller.calling_ae_title == "CT1"
        assert told.why == "its certificate (CN=CT1) was revoked"
        assert "the association is ended: its certificate (CN=CT1) was revoked" in caplog.text
        # Once is enough.
        await server.end_revoked(serving.revoked().revoked_in)
        assert len([one for one in serving.told if isinstance(one, AssociationRevoked)]) == 1


async def test_the_chain_of_a_connection_has_the_ca_in_it(tmp_path: Path) -> None:
    serving = Serving(tmp_path)
    serving.go_on.set()
    tls = serving.client("CT1")
    async with serving.running() as server, serving.calling("CT1", tls) as association:
        await association.echo()
        (connection,) = server._admission.connections
        assert connection.chain is not None
        chain = [x509.load_der_x509_certificate(one) for one in connection.chain()]
        assert [one.subject for one in chain][1:] == [serving.ca.certificate.subject]
        assert chain[0].subject.rfc4514_string() == "CN=CT1"


async def test_a_ca_in_between_that_is_revoked_takes_its_own_along(tmp_path: Path) -> None:
    pki = Pki()
    chain, key, root = tmp_path / "chain.pem", tmp_path / "ct1.key", tmp_path / "root.pem"
    pem = Encoding.PEM
    chain.write_bytes(pki.leaf.public_bytes(pem) + pki.middle.public_bytes(pem))
    key.write_bytes(key_pem(pki.keys[2]))
    key.chmod(0o600)
    root.write_bytes(pki.root.public_bytes(pem))
    serving = Serving(tmp_path)
    serving.go_on.set()
    own = ensure_server_certificate(serving.ca.directory, "ISOCENTER")
    context = server_context(TlsFiles(certificate=own.certificate, key=own.key, ca=root))
    client = client_context(TlsFiles(certificate=chain, key=key, ca=own.ca))
    async with serving.running(context) as server:
        with suppress(AssociationAbortedError):
            async with serving.calling("CT1", client) as association:
                await association.echo()
                await server.end_revoked(Revocations([pki.crl(0), pki.crl(1)]).revoked_in)
                assert await association.echo() == 0
                lists = [pki.crl(0, pki.middle), pki.crl(1)]
                await server.end_revoked(Revocations(lists).revoked_in)
                await _wait_for_end(association)
        (told,) = [one for one in serving.told if isinstance(one, AssociationRevoked)]
        assert told.why == "the CA CN=Middle was revoked"


_ASK = b"GET /dicomweb/studies HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def _web_connection(
    archive: ServedArchive, context: ssl.SSLContext
) -> trio.SSLStream[trio.SocketStream]:
    """One on which a request was answered."""
    found = re.search(r"https://127\.0\.0\.1:(\d+)/dicomweb", archive.log.read_text("utf-8"))
    assert found is not None
    socket = await trio.open_tcp_stream("127.0.0.1", int(found[1]))
    stream = trio.SSLStream(socket, context, server_hostname="localhost")
    await stream.send_all(_ASK)
    answer = b""
    while not answer.endswith(b"[]"):
        answer += await stream.receive_some(4_096)
    assert answer.startswith(b"HTTP/1.1 200")
    return stream


async def _is_closed(stream: trio.abc.ReceiveStream) -> bool:
    try:
        return await stream.receive_some(1) == b""
    except trio.BrokenResourceError:
        return True


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_reload_ends_them_in_every_worker(tmp_path: Path, workers: int) -> None:
    web = ("--https-host", "127.0.0.1", "--https-port", 0)
    with served_archive(tmp_path, "--workers", workers, *web, tls=True) as archive:
        names = {ae: archive.certificate(ae, tmp_path / ae) for ae in ("CT1", "CT2")}
        contexts = {
            ae: client_context(TlsFiles(certificate=certificate, key=key, ca=ca))
            for ae, (certificate, key, ca) in names.items()
        }
        peer = Peer("ISOCENTER", "localhost", archive.tls_port, tls=True)

        async def stand(ae: str, task_status: trio.TaskStatus[ClientAssociation]) -> None:
            try:
                async with open_association(
                    peer, [(VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN,))],
                    calling_ae_title=ae, tls=contexts[ae],
                ) as association:  # fmt: skip
                    task_status.started(association)
                    await association.ended.wait()
            except AssociationAbortedError:
                pass

        async with trio.open_nursery() as nursery:

            async def start(ae: str) -> ClientAssociation:
                found: ClientAssociation = await nursery.start(
                    lambda task_status: stand(ae, task_status)
                )
                return found

            # Enough that every worker has some.
            ending = [await start("CT1") for _ in range(8)]
            staying = [await start("CT2") for _ in range(8)]
            web_ending = [await _web_connection(archive, contexts["CT1"]) for _ in range(8)]
            web_staying = [await _web_connection(archive, contexts["CT2"]) for _ in range(8)]
            done = await trio.to_thread.run_sync(
                lambda: isocenter_command(
                    "certs", "revoke", "ct1", "--ca-dir", archive.data_dir / "certs"
                )
            )
            assert done.returncode == 0, done.stdout
            done = await trio.to_thread.run_sync(
                lambda: isocenter_command("reload", "--data-dir", archive.data_dir)
            )
            assert done.returncode == 0, done.stdout
            for association in ending:
                await _wait_for_end(association)
            for association in staying:
                assert await association.echo() == 0
            with trio.fail_after(PATIENCE):
                for stream in web_ending:
                    assert await _is_closed(stream)
                for stream in web_staying:
                    await stream.send_all(_ASK)
                    assert (await stream.receive_some(4_096)).startswith(b"HTTP/1.1 200")
            for stream in (*web_ending, *web_staying):
                await trio.aclose_forcefully(stream)
            nursery.cancel_scope.cancel()

        def are_audited() -> bool:
            shown = isocenter_command("audit", "show", "--data-dir", archive.data_dir)
            associations = shown.stdout.count("the association is ended")
            # Those of one kind and address that follow the first are told together.
            return associations == 8 and "the connection for HTTP is ended" in shown.stdout

        # The trail is written beside the work.
        await trio.to_thread.run_sync(lambda: wait_until(are_audited, archive.process))
        log = archive.log.read_text()
        for what in ("association", "connection for HTTP"):
            assert log.count(f"the {what} is ended: its certificate (CN=CT1) was revoked") == 8


async def test_it_can_be_switched_off(tmp_path: Path) -> None:
    config = tmp_path / "isocenter.toml"
    config.write_text("[tls]\nend_revoked = false\n")
    with served_archive(tmp_path, "--config", config, tls=True) as archive:
        certificate, key, ca = archive.certificate("CT1", tmp_path / "ct1")
        files = TlsFiles(certificate=certificate, key=key, ca=ca)
        peer = Peer("ISOCENTER", "localhost", archive.tls_port, tls=True)
        context = client_context(files)
        async with open_association(
            peer, [(VERIFICATION, BASIC_SYNTAXES)], calling_ae_title="CT1", tls=context
        ) as association:
            certs = archive.data_dir / "certs"
            await trio.to_thread.run_sync(
                lambda: isocenter_command("certs", "revoke", "ct1", "--ca-dir", certs)
            )
            await trio.to_thread.run_sync(
                lambda: isocenter_command("reload", "--data-dir", archive.data_dir)
            )
            with trio.fail_after(PATIENCE):
                while "peers: read again" not in archive.log.read_text():
                    await trio.to_thread.run_sync(lambda: None)
            assert await association.echo() == 0
            with pytest.raises(AssociationError):
                async with open_association(
                    peer, [(VERIFICATION, BASIC_SYNTAXES)], calling_ae_title="CT1", tls=context
                ) as late:
                    await late.echo()
