"""Real handshakes: who is let in, who is not, and what is said about it."""

from __future__ import annotations

import ssl
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from isocenter.services.net.peer_identity import owns_ae_title
from isocenter.services.net.tls.certificates import peer_identity
from isocenter.services.net.tls.contexts import (
    PROFILES,
    TLS_1_3_SUITES,
    ClientCertificates,
    TlsFiles,
    client_context,
    server_context,
)
from isocenter.services.net.tls.errors import TlsFileError, describe_tls_error
from isocenter.services.security.certificates.authority import CertificateAuthority
from isocenter.services.security.certificates.server_certificate import ensure_server_certificate

HOST = "localhost"
NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Site:
    """A CA, its server, and one client with AE title CT1."""

    ca: CertificateAuthority
    folder: Path
    server: TlsFiles
    client: TlsFiles


def files_of(ca: CertificateAuthority, folder: Path, name: str) -> TlsFiles:
    return TlsFiles(
        certificate=folder / f"{name}.crt", key=folder / f"{name}.key", ca=ca.certificate_path
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("site")
    ca = CertificateAuthority.create(folder / "ca")
    server = ensure_server_certificate(ca.directory, "ISOCENTER")
    ca.issue("CT1", folder=folder)
    return Site(ca, folder, server, files_of(ca, folder, "CT1"))


class Wire:
    """Both ends of one TLS connection, and the bytes between them, moved by hand."""

    def __init__(self, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.up = up
        self.server = server.wrap_bio(up, down, server_side=True)
        name = HOST if client.check_hostname else None
        self.client = client.wrap_bio(down, up, server_side=False, server_hostname=name)
        self.server_error: ssl.SSLError | None = None
        self.client_error: ssl.SSLError | None = None

    def _try(self, act: Callable[[], object]) -> ssl.SSLError | None:
        try:
            act()
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLError as error:
            return error
        return None

    def handshake(self) -> Wire:
        """Until both ends are quiet; in TLS 1.3 a client learns what became of it by reading."""
        for _ in range(6):
            self.client_error = self.client_error or self._try(self.client.do_handshake)
            self.server_error = self.server_error or self._try(self.server.do_handshake)
        if self.client.version() and not self.client_error:
            self.client_error = self._try(lambda: self.client.read(1))
        return self

    @property
    def works(self) -> bool:
        if self.server_error or self.client_error:
            return False
        self.client.write(b"ping")
        self.server.write(b"pong")
        return self.server.read(9) == b"ping" and self.client.read(9) == b"pong"


def connect(server: ssl.SSLContext, client: ssl.SSLContext) -> Wire:
    return Wire(server, client).handshake()


def make_certificate(
    folder: Path,
    name: str,
    *,
    issuer: CertificateAuthority | None,
    not_before: datetime = NOW - DAY,
    not_after: datetime = NOW + DAY,
    usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
) -> TlsFiles:
    """A certificate that our CA would not issue; without *issuer* it signs itself."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    if issuer is None:
        issuer_name, signer = subject, key
    else:
        issuer_name = issuer.certificate.subject
        pem = (issuer.directory / "ca.key").read_bytes()
        loaded = serialization.load_pem_private_key(pem, None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        signer = loaded
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .sign(signer, hashes.SHA256())
    )
    files = TlsFiles(certificate=folder / f"{name}.crt", key=folder / f"{name}.key")
    assert files.certificate is not None
    assert files.key is not None
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files.key.touch(0o600)
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


def raw_client(site: Site, files: TlsFiles) -> ssl.SSLContext:
    """A client that shows whatever certificate it has, also one that we would not load."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(site.ca.certificate_path)
    if files.certificate is not None:
        assert files.key is not None
        context.load_cert_chain(files.certificate, files.key)
    return context


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("strict", [False, True])
def test_both_sides_know_each_other(site: Site, profile: str, strict: bool) -> None:
    server = server_context(site.server, profile, strict=strict)
    wire = connect(server, client_context(site.client, profile, strict=strict))
    assert wire.works
    at_server, at_client = peer_identity(wire.server), peer_identity(wire.client)
    assert at_server is not None
    assert at_client is not None
    assert owns_ae_title(at_server, "CT1")
    assert not owns_ae_title(at_server, "CT2")
    assert owns_ae_title(at_client, "ISOCENTER")
    assert {"localhost", "127.0.0.1", "::1"} <= set(at_client.subject_alternative_names)
    assert wire.server.compression() is None
    assert wire.client.session is None or not wire.client.session.has_ticket


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("none", "showed no certificate"),
        ("self-signed", "self-signed"),
        ("foreign", "issuer is unknown"),
        ("expired", "has expired"),
        ("not yet valid", "not valid yet"),
        ("wrong usage", "not for this purpose"),
        ("revoked", "revoked"),
    ],
)
def test_who_is_refused(site: Site, tmp_path: Path, fault: str, said: str) -> None:
    files, server_files = TlsFiles(), site.server
    match fault:
        case "self-signed":
            files = make_certificate(tmp_path, "A", issuer=None)
        case "foreign":
            foreign = CertificateAuthority.create(tmp_path / "foreign")
            foreign.issue("CT1", folder=tmp_path)
            files = files_of(foreign, tmp_path, "CT1")
        case "expired":
            files = make_certificate(tmp_path, "A", issuer=site.ca, not_after=NOW - DAY / 2)
        case "not yet valid":
            files = make_certificate(tmp_path, "A", issuer=site.ca, not_before=NOW + DAY / 2)
        case "wrong usage":
            files = make_certificate(
                tmp_path, "A", issuer=site.ca, usage=ExtendedKeyUsageOID.SERVER_AUTH
            )
        case "revoked":
            ca = CertificateAuthority.create(tmp_path / "ca")
            server_files = ensure_server_certificate(ca.directory, "ISOCENTER")
            ca.issue("R1", folder=tmp_path)
            files = files_of(ca, tmp_path, "R1")
            client = client_context(files)
            assert connect(server_context(server_files), client).works
            ca.revoke("R1")
            site = replace(site, ca=ca)
    wire = connect(server_context(server_files), raw_client(site, files))
    assert not wire.works
    assert wire.server_error is not None
    assert said in describe_tls_error(wire.server_error)
    assert wire.client_error is not None, "the client is told"
    assert ";" in describe_tls_error(wire.client_error)


def test_a_good_certificate_beside_the_refused_ones(site: Site, tmp_path: Path) -> None:
    """The same maker without a fault is let in: the faults above are what is refused."""
    files = make_certificate(tmp_path, "A", issuer=site.ca)
    assert connect(server_context(site.server), raw_client(site, files)).works


def test_without_a_list_of_its_issuer_a_certificate_is_refused(site: Site, tmp_path: Path) -> None:
    other = CertificateAuthority.create(tmp_path / "other")
    server = server_context(replace(site.server, crl=other.crl_path))
    wire = connect(server, client_context(site.client))
    assert wire.server_error is not None
    assert "no revocation list" in describe_tls_error(wire.server_error)


class Issuer:
    """A CA with a list of its own, below another one or none, which issues what it is told to."""

    def __init__(self, name: str, above: Issuer | None = None) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = (above or self).sign(self.name, self.key, is_ca=True)

    def sign(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_ca: bool = False
    ) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - DAY)
            .not_valid_after(NOW + DAY)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )

    def revocation_list(self, *revoked: x509.Certificate) -> bytes:
        made = x509.CertificateRevocationListBuilder().issuer_name(self.name)
        for one in revoked:
            made = made.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(one.serial_number)
                .revocation_date(NOW - DAY)
                .build()
            )
        made = made.last_update(NOW - DAY).next_update(NOW + DAY)
        return made.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        ("issuing", ""),
        ("issuing root", ""),
        ("issuing root-revoking", "revoked"),
        ("root-revoking", "no revocation list"),
    ],
)
def test_a_ca_that_its_root_revoked_speaks_for_nobody(
    site: Site, tmp_path: Path, lists: str, said: str
) -> None:
    root = Issuer("Root")
    issuing = Issuer("Issuing", root)
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = issuing.sign(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CT1")]), key)
    pem = serialization.Encoding.PEM
    ca = tmp_path / "ca.crt"
    ca.write_bytes(root.certificate.public_bytes(pem) + issuing.certificate.public_bytes(pem))
    files = TlsFiles(certificate=tmp_path / "CT1.crt", key=tmp_path / "CT1.key")
    (tmp_path / "CT1.crt").write_bytes(leaf.public_bytes(pem))
    (tmp_path / "CT1.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    made = {
        "issuing": issuing.revocation_list(),
        "root": root.revocation_list(),
        "root-revoking": root.revocation_list(issuing.certificate),
    }
    crl = tmp_path / "crl.pem"
    crl.write_bytes(b"".join(made[name] for name in lists.split()))
    wire = connect(server_context(replace(site.server, ca=ca, crl=crl)), raw_client(site, files))
    assert wire.works == (not said)
    if said:
        assert wire.server_error is not None
        assert said in describe_tls_error(wire.server_error)


@pytest.mark.parametrize("mode", list(ClientCertificates))
def test_modes_of_client_certificates(site: Site, mode: ClientCertificates) -> None:
    server = server_context(site.server, "bcp195", mode)
    anonymous = connect(server, client_context(TlsFiles(ca=site.ca.certificate_path)))
    assert anonymous.works == (mode is not ClientCertificates.REQUIRED)
    known = connect(server, client_context(site.client))
    assert known.works
    assert (peer_identity(known.server) is None) == (mode is ClientCertificates.NONE)


def only(context: ssl.SSLContext, version: ssl.TLSVersion, suite: str = "") -> ssl.SSLContext:
    """A peer that offers one version, and one suite of TLS 1.2."""
    with warnings.catch_warnings():  # ssl warns of the versions that we refuse
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = version
        context.maximum_version = version
    context.set_ciphers(f"@SECLEVEL=0:{suite or 'ALL'}")
    return context


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_are_refused(site: Site, profile: str, version: ssl.TLSVersion) -> None:
    client = only(raw_client(site, site.client), version)
    wire = connect(server_context(site.server, profile), client)
    assert wire.server_error is not None
    assert "not safe" in describe_tls_error(wire.server_error)


def test_tls_1_2_is_refused_where_only_tls_1_3_is_served(site: Site) -> None:
    client = only(raw_client(site, site.client), ssl.TLSVersion.TLSv1_2)
    assert connect(server_context(site.server, "tls13"), client).server_error is not None


GCM = {
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
}
MODIFIED = GCM | {
    "ECDHE-ECDSA-AES128-CCM",
    "ECDHE-ECDSA-AES256-CCM",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
}
REFUSED = {
    "AES128-GCM-SHA256",  # RSA key exchange
    "AES256-SHA256",
    "ECDHE-ECDSA-AES128-SHA256",  # CBC
    "ECDHE-RSA-AES256-SHA384",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES128-CCM8",  # short tags
    "DHE-RSA-AES128-GCM-SHA256",
    "NULL-SHA256",
    "ECDHE-ECDSA-NULL-SHA",
    "AECDH-AES128-SHA",
    "ADH-AES128-GCM-SHA256",
}


@pytest.mark.parametrize("suite", sorted(MODIFIED | REFUSED))
def test_suites_one_by_one(site: Site, tmp_path: Path, suite: str) -> None:
    key = rsa.generate_private_key(65537, 2048) if "ECDSA" not in suite else None
    ours = make_certificate(
        tmp_path, HOST, issuer=site.ca, usage=ExtendedKeyUsageOID.SERVER_AUTH, key=key
    )
    for profile, allowed in (("bcp195", GCM), ("bcp195-modified", MODIFIED)):
        server = server_context(replace(ours, ca=site.ca.certificate_path), profile)
        client = only(raw_client(site, site.client), ssl.TLSVersion.TLSv1_2, suite)
        client.check_hostname = False
        wire = connect(server, client)
        assert wire.works == (suite in allowed), wire.server_error
        if wire.works:
            assert (wire.server.cipher() or ("",))[0] == suite


def test_tls_1_3_has_its_three_suites(site: Site) -> None:
    offered = {c["name"] for c in server_context(site.server, "tls13").get_ciphers()}
    assert {name for name in offered if name.startswith("TLS_")} == set(TLS_1_3_SUITES)


def test_the_host_name_is_compared(site: Site) -> None:
    server = server_context(site.server)
    client = client_context(site.client)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    wire = Wire(server, client)
    wire.up = up
    wire.server = server.wrap_bio(up, down, server_side=True)
    wire.client = client.wrap_bio(down, up, server_side=False, server_hostname="elsewhere")
    wire.handshake()
    assert wire.client_error is not None
    assert "another host" in describe_tls_error(wire.client_error)
    assert wire.server_error is not None
    assert "refused our certificate" in describe_tls_error(wire.server_error)
    assert connect(server, client_context(site.client, check_hostname=False)).works


def test_a_client_that_does_not_verify_knows_nobody(site: Site) -> None:
    wire = connect(server_context(site.server), client_context(site.client, verify=False))
    assert wire.works
    assert peer_identity(wire.client) is None


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x01\x00\x00\x00\x00\xd0" + b"\x00\x01" + b" " * 206, "does not speak TLS"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP request"),
        (b"\x16\x03\x01\xff\xff" + b"\xff" * 64, "does not speak TLS"),
        (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", "TLS failed"),
    ],
)
def test_what_is_no_tls_is_told_apart(site: Site, data: bytes, said: str) -> None:
    wire = Wire(server_context(site.server), client_context(site.client))
    wire.up.write(data)
    with pytest.raises(ssl.SSLError) as caught:
        wire.server.do_handshake()
    assert said in describe_tls_error(caught.value)


def test_an_error_of_something_else_is_described(site: Site) -> None:
    assert "connection broke" in describe_tls_error(trio.BrokenResourceError())
    wrapped = trio.BrokenResourceError()
    wrapped.__cause__ = ssl.SSLEOFError(8, "EOF occurred")
    assert "closed the connection" in describe_tls_error(wrapped)


async def test_over_trio_a_cut_is_no_end(site: Site) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    server = trio.SSLStream(ours, server_context(site.server), server_side=True)
    client = trio.SSLStream(theirs, client_context(site.client), server_hostname=HOST)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.do_handshake)
        nursery.start_soon(client.do_handshake)
    await client.send_all(b"half of a data set")
    assert await server.receive_some() == b"half of a data set"
    identity = peer_identity(server)
    assert identity is not None
    assert identity.common_name == "CT1"
    await theirs.aclose()  # without close_notify
    with pytest.raises(trio.BrokenResourceError):
        await server.receive_some()


def encrypted(path: Path) -> None:
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )


@pytest.fixture
def own(tmp_path: Path) -> TlsFiles:
    """Files that a test may spoil."""
    ca = CertificateAuthority.create(tmp_path / "ca")
    ca.issue("A", folder=tmp_path)
    return files_of(ca, tmp_path, "A")


def test_a_key_that_others_can_read_stops_the_start(own: TlsFiles) -> None:
    assert own.key is not None
    server_context(own)
    for mode in (0o640, 0o604, 0o660, 0o620):
        own.key.chmod(mode)
        with pytest.raises(TlsFileError, match="open to others; chmod 600"):
            server_context(own)


@pytest.mark.parametrize("which", ["certificate", "key", "ca", "crl"])
def test_files_that_are_missing_or_something_else(own: TlsFiles, which: str) -> None:
    path = (own.key or Path()).with_name("other.pem")
    files = replace(own, **{which: path})
    with pytest.raises(TlsFileError, match=r"other\.pem: no such file"):
        server_context(files)
    path.touch(0o600)
    for content in (b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n"):
        path.write_bytes(content)
        with pytest.raises(TlsFileError, match=r"other\.pem: .*; ") as caught:
            server_context(files)
        assert caught.value.path == path


def test_a_certificate_is_no_revocation_list(own: TlsFiles) -> None:
    with pytest.raises(TlsFileError, match="no certificate revocation list"):
        server_context(replace(own, crl=own.ca))


def test_a_leaf_is_no_ca(own: TlsFiles, site: Site) -> None:
    with pytest.raises(TlsFileError, match="holds no CA certificate"):
        server_context(replace(own, ca=own.certificate))


def test_a_key_of_another_certificate(own: TlsFiles, site: Site) -> None:
    with pytest.raises(TlsFileError, match="not the key of"):
        server_context(replace(own, key=site.client.key))


def test_a_key_with_a_password_never_asks_on_the_terminal(own: TlsFiles) -> None:
    assert own.key is not None
    encrypted(own.key)
    with pytest.raises(TlsFileError, match=r"has a password; set tls\.key_password"):
        server_context(own)
    with pytest.raises(TlsFileError, match="password is wrong"):
        server_context(replace(own, key_password="guess"))
    right = replace(own, key_password="secret")
    assert isinstance(server_context(right), ssl.SSLContext)
    assert "secret" not in repr(right)


def test_own_certificates_that_are_not_valid_stop_the_start(site: Site, tmp_path: Path) -> None:
    old = make_certificate(tmp_path, "A", issuer=site.ca, not_after=NOW - DAY / 2)
    with pytest.raises(TlsFileError, match=r"expired on .*renew"):
        client_context(old)
    early = make_certificate(tmp_path, "B", issuer=site.ca, not_before=NOW + DAY / 2)
    with pytest.raises(TlsFileError, match=r"not valid before .*clock"):
        client_context(early)
    short = make_certificate(
        tmp_path, "C", issuer=site.ca, key=rsa.generate_private_key(65537, 1024)
    )
    with pytest.raises(TlsFileError, match=r"C.*(short|certificate)"):
        client_context(short)


def test_what_a_context_needs(site: Site) -> None:
    with pytest.raises(TlsFileError, match="needs a certificate"):
        server_context(TlsFiles(ca=site.ca.certificate_path))
    with pytest.raises(TlsFileError, match="without a CA"):
        server_context(replace(site.server, ca=None))
    with pytest.raises(TlsFileError, match="go together"):
        client_context(TlsFiles(certificate=site.client.certificate))
    with pytest.raises(KeyError):
        server_context(site.server, "bcp196")


def test_names_and_clauses_of_profiles() -> None:
    assert next(iter(PROFILES)) == "bcp195"
    assert {p.name for p in PROFILES.values() if not p.is_retired} == {
        "bcp195",
        "bcp195-modified",
        "tls13",
    }


def test_paths_may_be_text(tmp_path: Path) -> None:
    files = TlsFiles(certificate="a.crt", key=tmp_path / "a.key", ca="ca.crt")  # type: ignore[arg-type]
    assert files == TlsFiles(
        certificate=Path("a.crt"), key=tmp_path / "a.key", ca=Path("ca.crt"), crl=None
    )
