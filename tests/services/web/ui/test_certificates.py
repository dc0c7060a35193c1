"""Certificates on the pages: issued, signed, revoked, taken away."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from isocenter.services.security.certificates.authority import CertificateAuthority
from isocenter.services.security.certificates.changes import CertificateChanged
from services.web.signed_in import Site
from services.web.ui.people import post, text_of

PASSPHRASE = "a long <passphrase>"


@pytest.fixture
def ca(site: Site) -> CertificateAuthority:
    return CertificateAuthority.create(site.file.folder / "certs")


@pytest.fixture
async def cookie(site: Site) -> dict[str, str]:
    return await site.cookie("a-administrator")


def files_of(answer: httpx.Response) -> dict[str, bytes]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["cache-control"] == "private, no-store"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as bundle:
        return {name: bundle.read(name) for name in bundle.namelist()}


def request_for(name: str) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


def keys_in(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.rglob("*") if one.suffix in (".key", ".p12"))


async def test_a_key_leaves_with_its_certificate_and_is_kept_nowhere(
    site: Site, cookie: dict[str, str], ca: CertificateAuthority
) -> None:
    answer = await post(site, cookie, "/certificates", ae_title="CT 1", hosts="ct1.example, ::1")
    assert answer.headers["content-disposition"] == 'attachment; filename="CT_1.zip"'
    files = files_of(answer)
    assert sorted(files) == ["CT_1.crt", "CT_1.key", "ca.crt"]
    certificate = x509.load_pem_x509_certificate(files["CT_1.crt"])
    key = serialization.load_pem_private_key(files["CT_1.key"], None)
    assert certificate.public_key() == key.public_key()
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(files["ca.crt"]))
    assert certificate.subject.rfc4514_string() == "CN=CT 1"
    assert keys_in(ca.directory) == ["ca.key"]
    (told,) = [one for one in site.told if isinstance(one, CertificateChanged)]
    assert (told.caller.user, told.what) == (
        "a-administrator", "certificate CT_1 issued for AE title CT 1",
    )  # fmt: skip
    page = await text_of(site, cookie, "/certificates")
    assert "CT 1" in page
    assert f"{certificate.serial_number:x}" in page


async def test_with_a_passphrase_the_key_is_in_a_file_of_its_own_kind(
    site: Site, cookie: dict[str, str], ca: CertificateAuthority
) -> None:
    fields = {"ae_title": "CT1", "passphrase": PASSPHRASE}
    files = files_of(await post(site, cookie, "/certificates", **fields))
    assert sorted(files) == ["CT1.crt", "CT1.p12", "ca.crt"]
    key, certificate, _ = pkcs12.load_key_and_certificates(files["CT1.p12"], PASSPHRASE.encode())
    assert key is not None
    assert certificate is not None
    assert keys_in(ca.directory) == ["ca.key"]


async def test_a_revoked_certificate_is_on_the_list_and_another_one_can_be_issued(
    site: Site, cookie: dict[str, str], ca: CertificateAuthority
) -> None:
    first = files_of(await post(site, cookie, "/certificates", ae_title="CT1"))["CT1.crt"]
    assert (
        "has a valid certificate"
        in (await post(site, cookie, "/certificates", ae_title="CT1")).text
    )
    assert (await post(site, cookie, "/certificates/revoke", name="CT1")).status_code == 303
    assert site.reloads == 1
    answer = await site.client.get("/certificates/crl.pem", headers=cookie)
    revoked = x509.load_pem_x509_crl(answer.content)
    number = x509.load_pem_x509_certificate(first).serial_number
    assert revoked.get_revoked_certificate_by_serial_number(number) is not None
    assert files_of(await post(site, cookie, "/certificates", ae_title="CT1"))["CT1.crt"] != first
    assert (await post(site, cookie, "/certificates/revoke", name="MR1")).status_code == 400
    answer = await site.client.get("/certificates/ca.crt", headers=cookie)
    assert answer.content == ca.certificate_path.read_bytes()


async def test_a_request_of_a_device_is_signed(
    site: Site, cookie: dict[str, str], ca: CertificateAuthority
) -> None:
    text = request_for("MR<7>")
    answer = await post(site, cookie, "/certificates/sign", name="mr7", request=text)
    assert sorted(files_of(answer)) == ["ca.crt", "mr7.crt"]
    assert "MR&lt;7&gt;" in await text_of(site, cookie, "/certificates")
    answer = await post(site, cookie, "/certificates/sign", name="mr8", request=text)
    assert (answer.status_code, "was signed before" in answer.text) == (400, True)


@pytest.mark.parametrize(
    ("path", "fields", "said"),
    [
        ("/certificates", {"ae_title": ""}, "cannot name a certificate"),
        ("/certificates", {"ae_title": "A" * 17}, "not an AE title"),
        ("/certificates", {"ae_title": "ca"}, "cannot name a certificate"),
        ("/certificates", {"ae_title": "CT1", "passphrase": "x"}, "passphrase"),
        ("/certificates", {"ae_title": "CT1", "hosts": "not&a/host"}, "host"),
        ("/certificates/sign", {"name": "ct1", "request": "<b>"}, "PKCS #10"),
        ("/certificates/sign", {"name": "../ct1", "request": "x"}, "cannot name a certificate"),
        ("/certificates/sign", {"name": "x", "request": "-----BEGIN PRIVATE KEY-----"}, "private"),
    ],
)
async def test_what_cannot_be_made_is_told(
    site: Site,
    cookie: dict[str, str],
    ca: CertificateAuthority,
    path: str,
    fields: dict[str, str],
    said: str,
) -> None:
    answer = await post(site, cookie, path, **fields)
    assert answer.status_code == 400
    assert said in answer.text
    assert not ca.issued()
    assert keys_in(ca.directory) == ["ca.key"]


async def test_a_ca_that_is_not_there_is_told(site: Site, cookie: dict[str, str]) -> None:
    assert "isocenter certs init" in await text_of(site, cookie, "/certificates")
    assert (await site.client.get("/certificates/ca.crt", headers=cookie)).status_code == 503
