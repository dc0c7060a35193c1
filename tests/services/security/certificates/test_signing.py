"""Keys of both kinds, PKCS #12, requests of modalities: with openssl and DCMTK as judges."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from isocenter.services.cli import main
from isocenter.services.security.certificates.issued import CertificateError
from isocenter.services.security.certificates.keys import weakness_of
from isocenter.services.security.certificates.signing_requests import read_request
from support.processes import isocenter_command, run, served_archive

Output = pytest.CaptureFixture[str]


def openssl(*words: object, cwd: Path | None = None) -> str:
    done = subprocess.run(
        ["openssl", *map(str, words)], capture_output=True, text=True, cwd=cwd, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


class Ca:
    def __init__(self, root: Path, capsys: Output) -> None:
        self.root = root
        self.directory = root / "ca"
        self.out = root / "out"
        self._capsys = capsys

    def call(self, *words: object) -> tuple[int, str, str]:
        code = main(["certs", *map(str, words), "--ca-dir", str(self.directory)])
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err

    def done(self, *words: object) -> str:
        code, out, err = self.call(*words)
        assert code == 0, out + err
        return out

    def refused(self, *words: object) -> str:
        before = sorted(self.root.rglob("*.crt"))
        code, out, err = self.call(*words)
        assert code == 1, out
        assert sorted(self.root.rglob("*.crt")) == before
        return err

    def request(
        self,
        name: str,
        subject: str,
        *options: object,
        key: Sequence[str] = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
    ) -> Path:
        path = self.root / f"{name}.csr"
        openssl(
            "req", "-new", *key, "-nodes", "-keyout", self.root / f"{name}.key",
            "-subj", subject, "-out", path, *options,
        )  # fmt: skip
        return path


@pytest.fixture
def ca(tmp_path: Path, capsys: Output) -> Ca:
    ca = Ca(tmp_path, capsys)
    ca.done("init")
    return ca


@pytest.mark.parametrize("kind", ["ec-p256", "ec-p384", "rsa-2048", "rsa-3072", "rsa-4096"])
def test_every_kind_of_key_verifies(tmp_path: Path, capsys: Output, kind: str) -> None:
    ca = Ca(tmp_path, capsys)
    ca.done("init", "--key", kind)
    ca.done("issue", "CT1", "--key", kind, "--out", ca.out)
    text = openssl(
        "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", ca.out / "ca.crt",
        "-crl_check", "-CRLfile", ca.directory / "crl.pem", ca.out / "CT1.crt",
    )  # fmt: skip
    assert "OK" in text
    shown = openssl("x509", "-in", ca.out / "CT1.crt", "-noout", "-text")
    assert ("rsaEncryption" in shown) is kind.startswith("rsa")
    assert ("Key Encipherment" in shown) is kind.startswith("rsa")
    assert kind.partition("-")[2].removeprefix("p") in shown.replace("P-", "")
    for key in (ca.directory / "ca.key", ca.out / "CT1.key"):
        openssl("pkey", "-in", key, "-check", "-noout")
    revoked = ca.done("revoke", "CT1")
    assert "revoked CT1" in revoked
    shown = openssl("crl", "-in", ca.directory / "crl.pem", "-CAfile", ca.directory / "ca.crt",
                    "-noout", "-text")  # fmt: skip
    assert "verify OK" in shown


@pytest.mark.interop("echoscu")
@pytest.mark.parametrize(("ca_kind", "kind"), [("rsa-3072", "rsa-2048"), ("ec-p256", "rsa-3072")])
def test_dcmtk_speaks_tls_with_rsa(tmp_path: Path, ca_kind: str, kind: str) -> None:
    certs = tmp_path / "data" / "certs"
    assert isocenter_command("certs", "init", "--ca-dir", certs, "--key", ca_kind).returncode == 0
    with served_archive(tmp_path, tls=True) as archive:
        out = tmp_path / "out"
        done = isocenter_command(
            "certs", "issue", "MODALITY", "--key", kind, "--ca-dir", certs, "--out", out,
            "--host", "localhost",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        done = run(
            "echoscu", "-v", "+tls", out / "MODALITY.key", out / "MODALITY.crt", "+cf",
            out / "ca.crt", "-aet", "MODALITY", "-aec", "ISOCENTER", "localhost", archive.tls_port,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        assert "Received Echo Response (Success)" in done.stdout


@pytest.mark.parametrize("form", ["aes", "3des"])
def test_pkcs12_takes_the_place_of_the_open_key(ca: Ca, form: str) -> None:
    secret = ca.root / "secret"
    secret.write_text("päss phrase\n")
    ca.done("issue", "CT1", "--pkcs12", form, "--passphrase-file", secret, "--out", ca.out)
    assert sorted(path.name for path in ca.out.iterdir()) == ["CT1.crt", "CT1.p12", "ca.crt"]
    assert (ca.out / "CT1.p12").stat().st_mode & 0o777 == 0o600
    legacy = ["-legacy"] if form == "3des" else []
    text = openssl(
        "pkcs12", "-in", ca.out / "CT1.p12", "-passin", f"file:{secret}", "-nodes", "-info",
        *legacy,
    )  # fmt: skip
    assert text.count("BEGIN CERTIFICATE") == 2
    assert "BEGIN PRIVATE KEY" in text
    assert ("AES-256-CBC" in text) is (form == "aes")
    (ca.root / "both.pem").write_text(text)
    openssl("verify", "-CAfile", ca.directory / "ca.crt", ca.root / "both.pem")
    # Renewed with its passphrase it holds the new one; without, that is said.
    before = (ca.out / "CT1.p12").read_bytes()
    assert "holds the old one still" in ca.done("renew", "CT1")
    assert (ca.out / "CT1.p12").read_bytes() == before
    said = ca.done("renew", "CT1", "--pkcs12", form, "--passphrase-file", secret)
    assert "CT1, for AE title CT1: " in said
    assert "holds the old" not in said
    openssl(
        "pkcs12", "-in", ca.out / "CT1.p12", "-passin", f"file:{secret}", "-nokeys", "-clcerts",
        "-out", ca.root / "leaf.pem", *legacy,
    )  # fmt: skip
    serial = openssl("x509", "-in", ca.out / "CT1.crt", "-noout", "-serial")
    assert openssl("x509", "-in", ca.root / "leaf.pem", "-noout", "-serial") == serial
    wrong = ca.root / "wrong"
    wrong.write_text("another one")
    error = ca.refused("renew", "CT1", "--pkcs12", "--passphrase-file", wrong)
    assert "does not open" in error


def test_a_request_is_signed(ca: Ca) -> None:
    path = ca.request("ct2", "/O=Vendor/CN=CT2", "-addext", "subjectAltName=DNS:ct2,DNS:WS7")
    said = ca.done("sign", path, "--host", "ct2", "--out", ca.out)
    assert "certificate for AE title CT2" in said
    assert "not in it, though the request asks for them: WS7" in said
    assert sorted(one.name for one in ca.out.iterdir()) == ["ca.crt", "ct2.crt"]
    openssl("verify", "-x509_strict", "-CAfile", ca.directory / "ca.crt", ca.out / "ct2.crt")
    certificate = x509.load_pem_x509_certificate((ca.out / "ct2.crt").read_bytes())
    assert certificate.subject.rfc4514_string() == "CN=CT2"
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["ct2"]
    public = openssl("pkey", "-in", ca.root / "ct2.key", "-pubout")
    assert openssl("x509", "-in", ca.out / "ct2.crt", "-noout", "-pubkey") == public
    assert "ct2" in ca.done("list")
    assert "ct2, for AE title CT2: " in ca.done("renew", "ct2")
    ca.done("revoke", "ct2")
    # What was revoked may have been stolen.
    error = ca.refused("sign", path, "--name", "again", "--out", ca.root / "out2")
    assert "was signed before, for ct2 (revoked)" in error


@pytest.mark.interop("echoscu")
def test_dcmtk_uses_what_was_signed(tmp_path: Path, capsys: Output) -> None:
    with served_archive(tmp_path, tls=True) as archive:
        ca = Ca(tmp_path, capsys)
        ca.directory = archive.data_dir / "certs"
        path = ca.request("mr", "/CN=MR1", key=("-newkey", "rsa:2048"))
        ca.done("sign", path, "--out", ca.out)
        words = [
            "echoscu", "-v", "+tls", tmp_path / "mr.key", ca.out / "mr.crt", "+cf",
            ca.out / "ca.crt", "-aec", "ISOCENTER", "-aet",
        ]  # fmt: skip
        done = run(*words, "MR1", "localhost", archive.tls_port)
        assert done.returncode == 0, done.stdout
        assert run(*words, "MR2", "localhost", archive.tls_port).returncode != 0


def test_requests_in_der_and_with_an_ae_title_of_the_operator(ca: Ca) -> None:
    path = ca.request("vendor.device.4711", "/CN=this is no AE title at all", "-outform", "DER")
    error = ca.refused("sign", path)
    assert "is not an AE title" in error
    assert "--ae-title AET" in error
    said = ca.done("sign", path, "--ae-title", "US1")
    assert "for AE title US1" in said
    assert "the request was for 'this is no AE title at all'" in said


@pytest.mark.parametrize(
    ("subject", "options", "key", "fault"),
    [
        ("/CN=A", (), ("-newkey", "rsa:1024"), "RSA with 1024 bits is too short"),
        ("/CN=A", (), ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp224r1"), "secp224r1"),
        ("/CN=A", (), ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"), "secp256k1"),
        ("/CN=A", (), ("-newkey", "ed25519"), "in no TLS profile"),
        ("/CN=A", ("-addext", "basicConstraints=critical,CA:TRUE"), (), "CA:TRUE"),
        ("/CN=A", ("-addext", "keyUsage=keyCertSign"), (), "CA:TRUE"),
        ("/O=nobody", (), (), "is not an AE title"),
        ("/CN=A/CN=B", (), (), "is not an AE title"),
    ],
)
def test_what_is_not_signed(
    ca: Ca, subject: str, options: Sequence[str], key: Sequence[str], fault: str
) -> None:
    made = {"key": key} if key else {}
    assert fault in ca.refused("sign", ca.request("bad", subject, *options, **made))


def test_bad_input_changes_nothing(ca: Ca) -> None:
    path = ca.request("ct2", "/CN=CT2")
    pem = path.read_text()
    other = ca.request("ct3", "/CN=CT3").read_text()
    der = x509.load_pem_x509_csr(other.encode()).public_bytes(
        __import__("cryptography.hazmat.primitives.serialization", fromlist=["x"]).Encoding.DER
    )
    forged = der[:-4] + bytes(byte ^ 1 for byte in der[-4:])
    files = {
        "text": (b"hello", "not a certificate signing request"),
        "empty": (b"", "not a certificate signing request"),
        "cut": (pem[:200].encode(), "not a certificate signing request"),
        "certificate": (
            (ca.directory / "ca.crt").read_bytes(), "a certificate is no request",
        ),
        "key": ((ca.root / "ct2.key").read_bytes(), "holds a private key"),
        "forged": (forged, "its signature is not of its key"),
        "large": (b"x" * 70_000, "too large"),
    }  # fmt: skip
    for name, (content, fault) in files.items():
        (ca.root / f"{name}.csr").write_bytes(content)
        assert fault in ca.refused("sign", ca.root / f"{name}.csr", "--ae-title", "CT2"), name
    assert "No such file" in ca.refused("sign", ca.root / "nothing.csr")
    assert "cannot name a certificate" in ca.refused("sign", path, "--name", "../up")
    assert "cannot name a certificate" in ca.refused("sign", path, "--name", "server")
    assert "is neither a host name" in ca.refused("sign", path, "--host", "a b")
    assert "needs a passphrase: --passphrase-file" in ca.refused("issue", "X", "--pkcs12")
    secret = ca.root / "secret"
    secret.write_text("abc\n")
    assert "4 characters at least" in ca.refused(
        "issue", "X", "--pkcs12", "--passphrase-file", secret
    )
    assert "give both" in ca.refused("issue", "X", "--passphrase-file", secret)
    assert len(ca.done("list").splitlines()) == 1
    ca.done("sign", path)
    assert "has a valid certificate" in ca.refused("sign", path)


def test_the_right_name_is_said(ca: Ca) -> None:
    ca.done("issue", "room7", "--ae-title", "CT1")
    for action in ("renew", "revoke"):
        error = ca.refused(action, "CT1")
        assert (
            f"the certificate for AE title CT1 is called room7: isocenter certs {action} room7"
            in error
        )
        assert "room7" in ca.refused(action, "ROOM7")
    assert "isocenter certs issue CT9" in ca.refused("renew", "CT9")


def test_weak_keys_are_known() -> None:
    assert not weakness_of(ec.generate_private_key(ec.SECP521R1()).public_key())
    assert not weakness_of(rsa.generate_private_key(65_537, 2_048).public_key())
    assert "exponent is 3" in weakness_of(rsa.generate_private_key(3, 2_048).public_key())


def test_a_request_tells_what_it_wants(ca: Ca) -> None:
    path = ca.request("x", "/CN=X", "-addext", "subjectAltName=DNS:x,IP:10.0.0.7,email:a@b")
    assert read_request(path).names == ("x", "10.0.0.7", "a@b")
    with pytest.raises(CertificateError, match="Is a directory"):
        read_request(ca.root)
