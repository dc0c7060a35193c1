"""What each TLS profile accepts, asked from outside with `openssl s_client`.

For every profile stands a listener with an elliptic-curve certificate and one with RSA; the
handshakes run beside one another.
"""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from isocenter.services.association.server import ListenAddress
from isocenter.services.net.tls.contexts import PROFILES, TlsFiles, server_context
from isocenter.services.net.tls.inspection import offered
from isocenter.services.security.certificates.authority import CertificateAuthority
from isocenter.services.security.certificates.server_certificate import ensure_server_certificate
from support.processes import isocenter_command
from support.serving import serving

pytestmark = pytest.mark.interop("openssl")

#: Handshakes at once.
AT_ONCE = 8
DEADLINE_SECONDS = 60

GCM = {
    "ECDHE-{}-AES128-GCM-SHA256",
    "ECDHE-{}-AES256-GCM-SHA384",
}
CHACHA20 = {"ECDHE-{}-CHACHA20-POLY1305"}
CCM = {"ECDHE-ECDSA-AES128-CCM", "ECDHE-ECDSA-AES256-CCM"}
TLS_1_3 = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
#: Profile → suites of TLS 1.2, ``{}`` for the kind of certificate.
SUITES = {
    "bcp195": GCM,
    "bcp195-modified": GCM | CHACHA20 | CCM,
    "tls13": set(),
    "basic": GCM | CHACHA20,
    "non-downgrading": GCM,
    "extended": GCM,
}
#: OpenSSL 3 has all of them; nothing below 256 bits (X25519: 253), finite fields from 2,048.
GROUPS = {"X25519", "P-256", "X448", "P-384", "P-521"}
FINITE_FIELDS = {"ffdhe2048", "ffdhe3072"}
WEAK_GROUPS = ("P-192", "P-224", "sect163k1", "sect233r1", "secp160r1")
GOOD_SIGNATURES = {
    "ECDSA": {"ECDSA+SHA256", "ECDSA+SHA384"},
    "RSA": {"RSA-PSS+SHA256", "RSA-PSS+SHA512"},
}
WEAK_SIGNATURES = {"ECDSA": {"ECDSA+SHA1"}, "RSA": {"RSA+SHA1", "RSA+MD5"}}


@dataclass(frozen=True)
class Site:
    """By kind of key, a server and a client that know each other."""

    servers: dict[str, TlsFiles]
    clients: dict[str, TlsFiles]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("profiles")
    ca = CertificateAuthority.create(folder / "ca")
    ca.issue("CT1", folder=folder)
    client = TlsFiles(
        certificate=folder / "CT1.crt", key=folder / "CT1.key", ca=ca.certificate_path
    )
    # With TLS 1.2 groups and signatures bind the certificates too (RFC 8422 5.1): this pair
    # has nothing elliptic in it.
    server_by_rsa, client_by_rsa = _rsa_pair(folder)
    return Site(
        {"ECDSA": ensure_server_certificate(ca.directory, "ISOCENTER"), "RSA": server_by_rsa},
        {"ECDSA": client, "RSA": client_by_rsa},
    )


def _rsa_pair(folder: Path) -> tuple[TlsFiles, TlsFiles]:
    """Two that sign themselves and trust each other."""
    paths = {name: folder / f"{name}.crt" for name in ("server", "client")}
    for name, path in paths.items():
        key = rsa.generate_private_key(65537, 2048)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        path.with_suffix(".key").touch(0o600)
        path.with_suffix(".key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    server, client = paths["server"], paths["client"]
    return (
        TlsFiles(certificate=server, key=server.with_suffix(".key"), ca=client),
        TlsFiles(certificate=client, key=client.with_suffix(".key"), ca=server),
    )


class Outside:
    """Handshakes by `openssl s_client` with the listeners of all profiles."""

    def __init__(self, clients: dict[str, TlsFiles], ports: dict[tuple[str, str], int]) -> None:
        self._clients = clients
        self._ports = ports
        self._limiter = trio.CapacityLimiter(AT_ONCE)

    async def handshake(self, profile: str, kind: str, *options: str) -> str:
        """The suite that was agreed on; empty: none, the server has refused."""
        client = self._clients[kind]
        words = [
            "openssl", "s_client", "-connect", f"127.0.0.1:{self._ports[profile, kind]}",
            "-cert", str(client.certificate), "-key", str(client.key),
            "-CAfile", str(client.ca), "-verify_return_error", *options,
        ]  # fmt: skip
        async with self._limiter:
            done = await trio.run_process(
                words, stdin=b"", capture_stdout=True, capture_stderr=True, check=False
            )
        said = done.stdout.decode()
        found = re.search(r"^New, TLSv1\.[23], Cipher is (\S+)$", said, re.MULTILINE)
        return found[1] if found is not None and done.returncode == 0 else ""

    async def suites(self, profile: str, kind: str) -> set[str]:
        """Every suite of TLS 1.2 that is accepted: those that were chosen are offered no more."""
        chosen: set[str] = set()
        while True:
            without = "".join(f":!{suite}" for suite in sorted(chosen))
            offer = f"ALL:COMPLEMENTOFALL{without}:@SECLEVEL=0"
            suite = await self.handshake(profile, kind, "-tls1_2", "-cipher", offer)
            if not suite:
                return chosen
            assert suite not in chosen
            chosen.add(suite)


@asynccontextmanager
async def outside(site: Site) -> AsyncIterator[Outside]:
    keys = [(profile, kind) for profile in PROFILES for kind in site.servers]
    contexts = [server_context(site.servers[kind], profile) for profile, kind in keys]
    binds = [
        ListenAddress(host="127.0.0.1", port=0, tls=partial(lambda context: context, context))
        for context in contexts
    ]
    with trio.fail_after(DEADLINE_SECONDS):
        async with serving(addresses=binds) as server:
            ports = [port for _, port, _ in server.addresses]
            yield Outside(site.clients, dict(zip(keys, ports, strict=True)))


@lru_cache
def knows(option: str, value: str) -> bool:
    """Whether this OpenSSL has the group or signature at all: else its refusal says nothing."""
    openssl = shutil.which("openssl")
    assert openssl is not None
    words = [openssl, "s_client", "-connect", "127.0.0.1:1", option, value]
    done = subprocess.run(words, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    return b"Error with command" not in done.stderr and b"Call to" not in done.stderr


def wanted(profile: str, kind: str) -> set[str]:
    named = {suite.format(kind) for suite in SUITES[profile]}
    return {suite for suite in named if f"-{kind}-" in suite}


async def test_every_suite_and_no_other(site: Site) -> None:
    found: dict[tuple[str, str], set[str]] = {}

    async def enumerate_suites(profile: str, kind: str) -> None:
        found[profile, kind] = await asked.suites(profile, kind)

    async with outside(site) as asked, trio.open_nursery() as nursery:
        for profile in PROFILES:
            for kind in site.servers:
                nursery.start_soon(enumerate_suites, profile, kind)
    assert found == {(p, k): wanted(p, k) for p in PROFILES for k in site.servers}


async def test_tls_1_3_with_its_three_suites_for_every_profile(site: Site) -> None:
    found: dict[tuple[str, str], str] = {}

    async def offer(profile: str, suite: str) -> None:
        found[profile, suite] = await asked.handshake(
            profile, "ECDSA", "-tls1_3", "-ciphersuites", suite
        )

    refused = ("TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256")
    async with outside(site) as asked, trio.open_nursery() as nursery:
        for profile in PROFILES:
            for suite in (*TLS_1_3, *refused):
                nursery.start_soon(offer, profile, suite)
    assert found == {
        (profile, suite): suite if suite in TLS_1_3 else ""
        for profile in PROFILES
        for suite in (*TLS_1_3, *refused)
    }


async def test_no_version_below_1_2(site: Site) -> None:
    found: dict[tuple[str, str], str] = {}

    async def offer(profile: str, kind: str, version: str) -> None:
        found[profile, version] = await asked.handshake(
            profile, kind, version, "-cipher", "ALL:@SECLEVEL=0"
        )

    async with outside(site) as asked, trio.open_nursery() as nursery:
        for profile in PROFILES:
            for version in ("-tls1", "-tls1_1", "-tls1_2"):
                nursery.start_soon(offer, profile, "ECDSA", version)
    accepted = {(profile, version) for (profile, version), suite in found.items() if suite}
    assert accepted == {(profile, "-tls1_2") for profile in PROFILES if profile != "tls13"}


async def test_groups(site: Site) -> None:
    """Nothing weak for any version; all that the profile is shown with for TLS 1.3."""
    found: dict[str, str] = {}

    async def offer(profile: str, group: str, version: str) -> None:
        options = ("-groups", group, version, "-cipher", "ALL:@SECLEVEL=0")
        found[f"{group} {version}"] = await asked.handshake(profile, "RSA", *options)

    weak = [group for group in WEAK_GROUPS if knows("-groups", group)]
    assert weak, "this OpenSSL has no weak group that could be refused"
    async with outside(site) as asked, trio.open_nursery() as nursery:
        for group in (*GROUPS, *weak):
            nursery.start_soon(offer, "bcp195", group, "-tls1_2")
        for group in (*GROUPS, *FINITE_FIELDS):
            nursery.start_soon(offer, "tls13", group, "-tls1_3")
    accepted = {name for name, suite in found.items() if suite}
    assert accepted == {f"{group} -tls1_2" for group in GROUPS} | {
        f"{group} -tls1_3" for group in GROUPS | FINITE_FIELDS
    }
    for profile in PROFILES.values():
        assert set(offered(profile)[0]) >= GROUPS


async def test_signature_algorithms(site: Site) -> None:
    found: dict[tuple[str, str], str] = {}

    async def offer(kind: str, signature: str) -> None:
        found[kind, signature] = await asked.handshake(
            "bcp195", kind, "-tls1_2", "-sigalgs", signature, "-cipher", "ALL:@SECLEVEL=0"
        )

    async with outside(site) as asked, trio.open_nursery() as nursery:
        for kind in site.servers:
            for signature in GOOD_SIGNATURES[kind] | WEAK_SIGNATURES[kind]:
                nursery.start_soon(offer, kind, signature)
    accepted = {key for key, suite in found.items() if suite}
    assert accepted == {(kind, one) for kind, some in GOOD_SIGNATURES.items() for one in some}


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_check_config_shows_what_is_served(profile: str, tmp_path: Path) -> None:
    done = isocenter_command(
        "serve", "--data-dir", tmp_path / "data", "--tls-profile", profile, "--check-config"
    )
    assert done.returncode == 0, done.stdout
    shown = dict(re.findall(r"^  (.{21})(.*)$", done.stdout, re.MULTILINE))
    rows = {name.strip(): set(value.split(", ")) for name, value in shown.items()}
    assert rows["suites of TLS 1.3"] == TLS_1_3
    assert rows.get("suites of TLS 1.2", set()) == wanted(profile, "ECDSA") | wanted(profile, "RSA")
    assert rows["versions"] == {"TLS 1.3"} | ({"TLS 1.2"} if profile != "tls13" else set())
    assert rows["groups"] >= GROUPS
    assert not {name for name in rows["signatures"] if "SHA1" in name or "MD5" in name}


def test_python_has_the_openssl_that_was_asked() -> None:
    """The names of suites and groups in this file are those of OpenSSL 3."""
    assert ssl.OPENSSL_VERSION_INFO >= (3, 0)
