"""The private CA: what it issues, what it keeps, and that nothing is lost or overwritten."""

from __future__ import annotations

import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from isocenter.services.cli import main
from isocenter.services.net.tls.contexts import TlsFiles, client_context, server_context
from isocenter.services.security.certificates.authority import (
    CertificateAuthority,
    ensure_ca,
)
from isocenter.services.security.certificates.issued import RENEW_WITHIN, CertificateError
from isocenter.services.security.certificates.profile import CA_LIFETIME, LIFETIME
from isocenter.services.security.certificates.server_certificate import ensure_server_certificate

DAY = timedelta(days=1)
NOW = datetime.now(UTC)


@pytest.fixture
def ca(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority.create(tmp_path / "data" / "ca")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def revoked_serials(ca: CertificateAuthority) -> set[int]:
    crl = x509.load_pem_x509_crl(ca.crl_path.read_bytes())
    key = ca.certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert crl.is_signature_valid(key)
    return {entry.serial_number for entry in crl}


def test_a_new_ca(ca: CertificateAuthority) -> None:
    certificate = ca.certificate
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_cert_sign
    assert usage.crl_sign
    assert not usage.digital_signature
    certificate.verify_directly_issued_by(certificate)
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert lifetime == CA_LIFETIME + timedelta(hours=1)
    assert revoked_serials(ca) == set()
    assert ca.issued() == ()


def test_keys_and_folders_are_private(ca: CertificateAuthority, tmp_path: Path) -> None:
    issued = ca.issue("CT1", folder=tmp_path / "new" / "out")
    ca.issue("CT2")
    ensure_server_certificate(ca.directory, "ISOCENTER")
    for folder in ca.directory, ca.directory.parent, ca.directory / "issued", issued.folder:
        assert mode(folder) == 0o700
    keys = [*tmp_path.rglob("*.key")]
    assert {key.name for key in keys} == {"ca.key", "CT1.key", "CT2.key", "server.key"}
    assert {mode(key) for key in keys} == {0o600}
    assert mode(ca.directory / "issued.json") == 0o600
    assert [p for p in tmp_path.rglob(".*") if p.name != ".lock"] == [], "nothing staged is left"


def test_what_is_issued(ca: CertificateAuthority, tmp_path: Path) -> None:
    hosts = ["ct1.example.org", "10.0.0.7", "[fe80::1]", "10.0.0.7"]
    issued = ca.issue("ct1", ae_title="CT 1", hosts=hosts, folder=tmp_path)
    certificate = load(tmp_path / "ct1.crt")
    assert issued.state() == "valid"
    assert issued.serial_number == certificate.serial_number
    common_name = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert [name.value for name in common_name] == ["CT 1"]
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc <= LIFETIME + DAY
    extensions = certificate.extensions
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    }
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["ct1.example.org", "10.0.0.7", "fe80::1"]
    certificate.verify_directly_issued_by(ca.certificate)
    assert (tmp_path / "ca.crt").read_bytes() == ca.certificate_path.read_bytes()
    server_context(
        TlsFiles(
            certificate=tmp_path / "ct1.crt", key=tmp_path / "ct1.key", ca=tmp_path / "ca.crt"
        ),
        strict=True,
    )


@pytest.mark.parametrize(
    ("name", "ae_title"),
    [
        *[
            (name, "A")
            for name in ("", "../x", "a/b", ".x", "-x", "a b", "x" * 65, "a\0", "\u00e4")
        ],
        *[(name, "A") for name in ("ca", "CA", "crl", "issued", "server")],
        *[("x", title) for title in ("", "  ", "A\\B", "ABCDEFGHIJKLMNOPQ", "A\nB", "\u00e4")],
        ("ABCDEFGHIJKLMNOPQ", None),
    ],
)
def test_names_that_cannot_be(
    ca: CertificateAuthority, tmp_path: Path, name: str, ae_title: str | None
) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CertificateError):
        ca.issue(name, ae_title=ae_title, folder=tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
    assert ca.issued() == ()


def test_hosts_that_cannot_be(ca: CertificateAuthority) -> None:
    for host in ("", "a b", "-a", "a/b", "\u00e4.org", "a" * 300):
        with pytest.raises(CertificateError, match="neither a host name nor an address"):
            ca.issue("A", hosts=[host])


def test_nothing_is_overwritten(ca: CertificateAuthority, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ca.issue("A", folder=out)
    before = {path: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(CertificateError, match="has a valid certificate; renew it"):
        ca.issue("A", folder=tmp_path / "other")
    ca.revoke("A")
    with pytest.raises(CertificateError, match=r"A\.crt is there already"):
        ca.issue("A", folder=out)
    other = CertificateAuthority.create(tmp_path / "other-ca")
    with pytest.raises(CertificateError, match=r"ca\.crt is there already"):
        other.issue("B", folder=out)
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    assert other.issued() == ()
    with pytest.raises(CertificateError, match="holds something already"):
        CertificateAuthority.create(ca.directory)
    assert ca.issue("A", folder=tmp_path / "other").state() == "valid"
    assert [one.state() for one in ca.issued()] == ["revoked", "valid"]


def test_revoking(ca: CertificateAuthority, tmp_path: Path) -> None:
    first, second = ca.issue("A"), ca.issue("B")
    assert [one.serial_number for one in ca.revoke("A")] == [first.serial_number]
    assert revoked_serials(ca) == {first.serial_number}
    ca.revoke("B")
    assert revoked_serials(ca) == {first.serial_number, second.serial_number}
    for name in ("A", "C"):
        with pytest.raises(CertificateError, match="no valid certificate"):
            ca.revoke(name)
    again = CertificateAuthority(ca.directory)
    assert [(one.name, one.state()) for one in again.issued()] == [
        ("A", "revoked"),
        ("B", "revoked"),
    ]


def test_a_renewed_certificate_and_its_predecessor_are_revoked_together(
    ca: CertificateAuthority, tmp_path: Path
) -> None:
    old = ca.issue("A", folder=tmp_path)
    (new,) = ca.renew("A")
    ca.revoke("A")
    assert revoked_serials(ca) == {old.serial_number, new.serial_number}


def test_renewing(ca: CertificateAuthority, tmp_path: Path) -> None:
    out = tmp_path / "out"
    old = ca.issue("A", ae_title="AE", hosts=["a.example.org"], folder=out)
    ca.issue("B", now=NOW)
    ca.revoke("B")
    key = (out / "A.key").read_bytes()
    assert ca.renew() == ()
    almost = old.not_after - RENEW_WITHIN
    assert ca.renew(now=almost - DAY) == ()
    (new,) = ca.renew(now=almost)
    certificate = load(out / "A.crt")
    assert certificate.serial_number == new.serial_number != old.serial_number
    assert new.common_name == "AE"
    assert new.not_after > old.not_after
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.example.org"]
    assert (out / "A.key").read_bytes() == key, "key and certificate fit at any moment"
    assert ca.renew(now=almost) == ()
    for name in ("B", "C"):
        with pytest.raises(CertificateError, match="no certificate that could be renewed"):
            ca.renew(name)


def test_what_is_valid_for_a_while_only_is_renewed_for_as_long(ca: CertificateAuthority) -> None:
    month = timedelta(days=30)
    old = ca.issue("A", lifetime=month)
    assert old.not_after - old.not_before <= month + timedelta(hours=1)
    assert ca.renew(now=old.not_before + 10 * DAY) == ()
    (new,) = ca.renew(now=old.not_before + 20 * DAY)
    assert abs((new.not_after - new.not_before) - month) <= timedelta(hours=1)


def test_renewing_what_was_carried_away(ca: CertificateAuthority, tmp_path: Path) -> None:
    out = tmp_path / "stick"
    ca.issue("A", folder=out)
    out.rename(tmp_path / "elsewhere")
    (new,) = ca.renew("A")
    assert new.folder == ca.directory / "issued" / "A"
    assert load(new.folder / "A.crt").serial_number == new.serial_number


def test_a_certificate_never_outlives_its_ca(ca: CertificateAuthority) -> None:
    end = ca.certificate.not_valid_after_utc
    assert ca.issue("A", now=end - DAY).not_after == end
    with pytest.raises(CertificateError, match="has expired; make a new one"):
        ca.issue("B", now=end)


def test_ensure_ca_makes_one_and_keeps_it(tmp_path: Path) -> None:
    directory = tmp_path / "data" / "certs"
    ca = ensure_ca(directory)
    assert ensure_ca(directory).certificate == ca.certificate
    (tmp_path / "empty").mkdir()
    assert ensure_ca(tmp_path / "empty").issued() == ()


def test_ensure_ca_publishes_what_a_crash_kept_back(ca: CertificateAuthority) -> None:
    issued = ca.issue("A")
    before = ca.crl_path.read_bytes()
    ca.revoke("A")
    for content in (before, b"", None):
        if content is None:
            ca.crl_path.unlink()
        else:
            ca.crl_path.write_bytes(content)
        ensure_ca(ca.directory)
        assert revoked_serials(ca) == {issued.serial_number}


def test_a_damaged_ca_is_never_replaced(ca: CertificateAuthority) -> None:
    key = ca.directory / "ca.key"
    content = key.read_bytes()
    key.unlink()
    with pytest.raises(CertificateError, match=r"the key of the CA in .* is missing; put it back"):
        ensure_ca(ca.directory)
    key.touch(0o600)
    key.write_bytes(b"garbage")
    with pytest.raises(CertificateError, match=r"ca\.key: .*backup"):
        ca.issue("A")
    key.write_bytes(content)
    key.chmod(0o644)
    with pytest.raises(CertificateError, match="open to others; chmod 600"):
        ensure_ca(ca.directory)
    key.chmod(0o600)
    record = ca.directory / "issued.json"
    for damaged in (b"", b"{", b"[1]", b'[{"name": "A"}]', b"3"):
        record.write_bytes(damaged)
        with pytest.raises(CertificateError, match=r"issued\.json: .*backup"):
            ca.issue("A")
    record.unlink()
    with pytest.raises(CertificateError, match=r"issued\.json: no such file"):
        ensure_ca(ca.directory)
    (ca.directory / "ca.crt").write_bytes(b"garbage")
    with pytest.raises(CertificateError, match=r"ca\.crt: .*backup"):
        ensure_ca(ca.directory)


def test_the_key_of_another_ca_signs_nothing(ca: CertificateAuthority, tmp_path: Path) -> None:
    other = CertificateAuthority.create(tmp_path / "other")
    (ca.directory / "ca.key").write_bytes((other.directory / "ca.key").read_bytes())
    with pytest.raises(CertificateError, match="not the key of"):
        ca.issue("A")
    assert not (ca.directory / "issued" / "A" / "A.key").exists()


def serial(files: TlsFiles) -> int:
    assert files.certificate is not None
    return load(files.certificate).serial_number


def test_the_server_certificate(ca: CertificateAuthority) -> None:
    files = ensure_server_certificate(ca.directory, "ISOCENTER")
    server_context(files, strict=True)
    client_context(files, strict=True)
    first = serial(files)
    assert serial(ensure_server_certificate(ca.directory, "ISOCENTER")) == first
    other = ensure_server_certificate(ca.directory, "OTHER", ["pacs.example.org", "192.0.2.1"])
    second = serial(other)
    assert second != first, "another AE title"
    assert serial(ensure_server_certificate(ca.directory, "OTHER", ["192.0.2.1"])) == second
    third = serial(ensure_server_certificate(ca.directory, "OTHER", ["b.example.org"]))
    assert third != second, "another host"
    end = ca.issued()[-1].not_after
    due = ensure_server_certificate(ca.directory, "OTHER", ["b.example.org"], now=end - DAY)
    assert serial(due) != third, "ends soon"


@pytest.mark.parametrize("spoiled", ["server.crt", "server.key"])
@pytest.mark.parametrize("content", [None, b"", b"garbage"])
def test_a_server_certificate_that_was_spoiled_is_made_again(
    ca: CertificateAuthority, spoiled: str, content: bytes | None
) -> None:
    files = ensure_server_certificate(ca.directory, "ISOCENTER")
    first = serial(files)
    if content is None:
        (ca.directory / spoiled).unlink()
    else:
        (ca.directory / spoiled).write_bytes(content)
    server_context(ensure_server_certificate(ca.directory, "ISOCENTER"))
    assert serial(files) != first


def test_a_revoked_server_certificate_is_made_again(ca: CertificateAuthority) -> None:
    first = serial(ensure_server_certificate(ca.directory, "ISOCENTER"))
    ca.revoke("server")
    assert serial(ensure_server_certificate(ca.directory, "ISOCENTER")) != first
    assert revoked_serials(ca) == {first}


def test_many_at_once_lose_nothing(tmp_path: Path) -> None:
    """Processes that start together, and an administrator beside them."""
    directory = tmp_path / "ca"
    failures: list[BaseException] = []
    start = threading.Barrier(6)

    def work(number: int) -> None:
        try:
            start.wait()
            ensure_ca(directory)
            ensure_server_certificate(directory, "ISOCENTER")
            CertificateAuthority(directory).issue(f"A{number}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    names = sorted(one.name for one in ensure_ca(directory).issued())
    assert names == [*(f"A{number}" for number in range(6)), "server"]


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*argv: str) -> tuple[int, str, str]:
        code = main(["certs", *argv, "--data-dir", str(tmp_path / "data")])
        said = capsys.readouterr()
        return code, said.out, said.err

    code, _, err = run("list")
    assert code == 1
    assert "isocenter certs init" in err
    code, out, _ = run("init")
    assert code == 0
    assert str(tmp_path / "data" / "certs" / "ca.crt") in out
    code, _, err = run("init")
    assert (code, err.count("\n")) == (1, 1)
    code, out, _ = run("issue", "CT1", "--out", str(tmp_path / "out"))
    assert code == 0
    for name in ("CT1.crt", "CT1.key", "ca.crt"):
        assert (tmp_path / "out" / name).is_file()
        assert str(tmp_path / "out" / name) in out
    code, out, _ = run("issue", "ws7", "--ae-title", "WS_7", "--host", "ws7.example.org")
    assert code == 0
    assert "WS_7" in out
    code, _, err = run("issue", "a_name_longer_than_16")
    assert code == 1
    assert "--ae-title" in err
    assert run("renew")[:2] == (0, "nothing ends soon\n")
    assert run("renew", "CT1")[0] == 0
    assert run("revoke", "ws7")[0] == 0
    assert run("revoke", "nobody")[0] == 1
    code, out, _ = run("list")
    rows = [line.split()[:3] for line in out.splitlines()]
    assert rows == [
        ["NAME", "AE", "TITLE"],
        ["CT1", "CT1", "valid"],
        ["ws7", "WS_7", "revoked"],
        ["CT1", "CT1", "valid"],
    ]


def test_another_ca_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["certs", "init", "--ca-dir", "ca"]) == 0
    assert main(["certs", "issue", "A", "--ca-dir", "ca", "--out", "."]) == 0
    assert (tmp_path / "A.key").is_file()
    assert main(["certs", "list", "--data-dir", ":memory:"]) == 2
    assert "--ca-dir" in capsys.readouterr().err
    config = tmp_path / "c.toml"
    config.write_text("[storage]\ndata_dir = 'archive'\n")
    assert main(["certs", "init", "--config", str(config)]) == 0
    assert (tmp_path / "archive" / "certs" / "ca.key").is_file()
    for argv in (["certs"], ["certs", "burn"], ["certs", "issue"]):
        with pytest.raises(SystemExit) as caught:
            main(argv)
        assert caught.value.code == 2
