"""CAs and revocations reach every node, and nobody's own files are written."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID, NameOID

from isocenter.services.archive.object_location import ObjectLocation, StoreKind
from isocenter.services.cluster.sharing import Sharing
from isocenter.services.composition.shared_trust import shared_trust
from isocenter.services.composition.tls_contexts import TlsContexts
from isocenter.services.errors import StorageError
from isocenter.services.security.certificates.authority import CertificateAuthority
from isocenter.services.security.certificates.issued import Issued
from isocenter.services.security.certificates.shared import SharedRevocations
from isocenter.services.settings.sections.access import TlsSettings
from isocenter.services.settings.sections.cluster import ClusterSettings
from isocenter.services.settings.sections.database import DatabaseSettings
from isocenter.services.settings.sections.objects import ObjectsSettings
from isocenter.services.settings.sections.storage import StorageSettings
from isocenter.services.settings.settings import Settings
from isocenter.storage.database.cluster import DatabaseDocuments
from isocenter.storage.database.sqlite.database import open_sqlite_database

MINUTE = timedelta(minutes=1)


class Node:
    """A node with a certificate of its own, from one CA or another, and files of that."""

    def __init__(
        self, folder: Path, ca: CertificateAuthority, documents: DatabaseDocuments
    ) -> None:
        folder.mkdir(mode=0o700)
        issued = ca.issue(folder.name, folder=folder / "own")
        self.ca, self.crl = folder / "ca.pem", folder / "crl.pem"
        self.ca.write_bytes(ca.certificate_path.read_bytes())
        self.crl.write_bytes(ca.crl_path.read_bytes())
        self.settings = Settings(
            storage=StorageSettings(data_dir=folder),
            database=DatabaseSettings(url="postgresql://db/pacs"),
            objects=ObjectsSettings(url=ObjectLocation(kind=StoreKind.FILES, bucket="/objects")),
            cluster=ClusterSettings(node=folder.name),
            tls=TlsSettings(
                certificate=issued.folder / f"{folder.name}.crt",
                key=issued.folder / f"{folder.name}.key",
                ca=self.ca,
                crl=self.crl,
            ),
        )
        self.sharing = Sharing(documents, shared_trust(self.settings), folder)
        self.tls = TlsContexts(self.settings, folder / "certs")

    async def look(self) -> set[str]:
        """What came from another node; it is in use then."""
        came = set(await self.sharing.look())
        if came:
            self.tls.reload()
        return came

    def turns_away(self, issued: Issued) -> bool:
        """Whether a certificate counts as revoked."""
        der = ssl.PEM_cert_to_DER_cert(issued.pem)
        ca = ssl.PEM_cert_to_DER_cert(self.ca.read_text())
        return bool(self.tls.revocations.revoked_in([der, ca]))

    def trusts(self) -> int:
        """How many CAs."""
        return len(self.tls.server.get_ca_certs())


@pytest.fixture
def ca(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority.create(tmp_path / "ca")


@asynccontextmanager
async def nodes(tmp_path: Path, ca: CertificateAuthority) -> AsyncIterator[tuple[Node, Node]]:
    async with open_sqlite_database(":memory:") as database:
        documents = DatabaseDocuments(database)
        pair = Node(tmp_path / "one", ca, documents), Node(tmp_path / "two", ca, documents)
        yield pair
        for node in pair:
            assert not list((tmp_path / node.settings.cluster.name).glob("*.not-shared"))


async def until_quiet(*pair: Node) -> None:
    """As nodes do that look again and again: what came, what was joined, and that all have it."""
    for _ in range(3):
        for node in pair:
            await node.look()


async def test_what_one_node_revokes_is_revoked_on_the_other(
    tmp_path: Path, ca: CertificateAuthority
) -> None:
    async with nodes(tmp_path, ca) as (one, two):
        await until_quiet(one, two)
        first, second = ca.issue("first"), ca.issue("second")
        ca.revoke("first", now=datetime.now(UTC) + MINUTE)
        one.crl.write_bytes(ca.crl_path.read_bytes())
        assert not two.turns_away(first)
        before = two.crl.read_bytes()
        assert await one.look() == set()
        assert await two.look() == {"revocations"}
        assert two.turns_away(first)
        assert two.crl.read_bytes() == before
        # A later list of the other one counts on both; an earlier one nowhere.
        ca.revoke("second", now=datetime.now(UTC) + 2 * MINUTE)
        two.crl.write_bytes(ca.crl_path.read_bytes())
        one.crl.write_bytes(before)
        await until_quiet(two, one)
        for node in (one, two):
            node.tls.reload()
            assert node.turns_away(first)
            assert node.turns_away(second)


async def test_lists_of_other_cas_are_joined(tmp_path: Path, ca: CertificateAuthority) -> None:
    another = CertificateAuthority.create(tmp_path / "another")
    theirs = another.issue("theirs")
    another.revoke("theirs")
    async with nodes(tmp_path, ca) as (one, two):
        two.crl.write_bytes(two.crl.read_bytes() + another.crl_path.read_bytes())
        await until_quiet(one, two)
        der = [ssl.PEM_cert_to_DER_cert(text) for text in (
            theirs.pem, another.certificate_path.read_text()
        )]  # fmt: skip
        assert one.tls.revocations.revoked_in(der)


async def test_a_ca_that_is_added_or_taken_away_is_so_on_both(
    tmp_path: Path, ca: CertificateAuthority
) -> None:
    another = CertificateAuthority.create(tmp_path / "another")
    alone, both = ca.certificate_path.read_bytes(), another.certificate_path.read_bytes()
    async with nodes(tmp_path, ca) as (one, two):
        await until_quiet(one, two)
        assert two.trusts() == 1
        one.ca.write_bytes(alone + both)
        assert await one.look() == set()
        assert await two.look() == {"authorities"}
        assert two.trusts() == 2
        assert two.ca.read_bytes() == alone
        # Whoever changes it last says what holds, on either node.
        two.ca.write_bytes(alone + b"\n")
        assert await two.look() == set()
        assert await one.look() == {"authorities"}
        assert one.trusts() == 1
        two.tls.reload()
        assert two.trusts() == 1


async def test_what_cannot_be_read_holds_up_nothing(
    tmp_path: Path, ca: CertificateAuthority
) -> None:
    async with nodes(tmp_path, ca) as (one, two):
        await until_quiet(one, two)
        one.crl.write_text("-----BEGIN X509 CRL-----\nno list\n")
        one.ca.write_bytes(
            one.ca.read_bytes()
            + CertificateAuthority.create(tmp_path / "another").certificate_path.read_bytes()
        )
        with pytest.raises(StorageError, match="revocation list cannot be used"):
            await one.look()
        assert await two.look() == {"authorities"}


def test_a_list_whose_extensions_cannot_be_read_is_told(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    broken = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A CA")]))
        .last_update(now)
        .next_update(now + MINUTE)
        .add_extension(x509.UnrecognizedExtension(ExtensionOID.CRL_NUMBER, b"\xff"), critical=False)
        .sign(ec.generate_private_key(ec.SECP256R1()), SHA256())
    )
    own = tmp_path / "crl.pem"
    own.write_bytes(broken.public_bytes(Encoding.PEM))
    with pytest.raises(OSError, match="extensions that cannot be read"):
        SharedRevocations(tmp_path, own).path()
