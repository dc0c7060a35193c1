"""Digital signatures beside DCMTK's dcmsign, both ways, and time stamps of OpenSSL."""

from __future__ import annotations

import http.server
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from cryptography.hazmat.primitives import serialization
from pydicom.dataset import Dataset

from isocenter.services.cli import main
from support.signers import Issued, issue, revocation_list, rsa_key, stamper

pytestmark = [
    pytest.mark.interop("dcmsign"),
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]
DATA = Path(pydicom.__file__).parent / "data" / "test_files"
SYNTAXES = (
    "MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm",
    "JPEG2000.dcm", "SC_rgb_jpeg_dcmtk.dcm", "image_dfl.dcm", "rtplan.dcm", "test-SR.dcm",
)  # fmt: skip
#: Option of dcmsign for each of our profiles and algorithms.
PROFILES = {"base": "+pb", "creator": "+pc", "authorization": "+pa", "sr": "+pr",
            "sr-verification": "+pv"}  # fmt: skip
MACS = {"sha256": "+m2", "sha384": "+m3", "sha512": "+m5"}
Captured = pytest.CaptureFixture[str]


class People:
    """An authority, a signer of each kind of key, and their files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = issue("Authority", rsa_key("authority"), authority=True)
        self.signers = {
            "rsa": issue("Signer", rsa_key("signer"), by=self.authority),
            "ecdsa": issue("Signer", by=self.authority),
        }
        self.files = {kind: one.write(folder, kind) for kind, one in self.signers.items()}
        self.ca = self.authority.write(folder, "ca")[1]

    def key_and_certificate(self, kind: str) -> list[str]:
        return [str(path) for path in self.files[kind]]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> People:
    return People(tmp_path_factory.mktemp("people"))


def dcmsign(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["dcmsign", *map(str, words)], capture_output=True, text=True, timeout=120, check=False
    )


def ours(*words: object) -> int:
    return main(["dcmsign", *map(str, words)])


def report(folder: Path) -> Path:
    """A structured report that was verified, with what dcmsign wants of one."""
    dataset = pydicom.dcmread(DATA / "reportsi.dcm")
    dataset.VerificationFlag = "VERIFIED"
    evidence = Dataset()
    evidence.StudyInstanceUID = "1.2.3"
    for name in (
        "CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence",
        "PredecessorDocumentsSequence",
    ):  # fmt: skip
        setattr(dataset, name, [evidence])
    dataset.ObservationDateTime = "20260101120000"
    observer = Dataset()
    observer.VerificationDateTime = "20260101120000"
    dataset.VerifyingObserverSequence = [observer]
    dataset.VerificationDateTime = "20260101120000"
    path = folder / "report.dcm"
    dataset.save_as(path)
    return path


def altered(path: Path) -> Path:
    """A copy in which one byte of the SOP Instance UID is another one."""
    raw = path.read_bytes()
    uid = pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID
    if uid.encode() not in raw[500:]:  # deflated: anew
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID = uid[:-1] + ("1" if uid[-1] != "1" else "2")
        copy = path.with_suffix(".altered")
        dataset.save_as(copy)
        return copy
    at = raw.rindex(uid.encode()) + len(uid) - 1
    other = b"1" if raw[at : at + 1] != b"1" else b"2"
    copy = path.with_suffix(".altered")
    copy.write_bytes(raw[:at] + other + raw[at + 1 :])
    return copy


def check(path: Path, people: People) -> None:
    """Both say that it holds, and that one altered byte does not."""
    assert ours(path, "--ca", people.ca) == 0
    found = dcmsign("--verify", "+rg", "+cf", people.ca, path)
    assert found.returncode == 0, found.stderr
    other = altered(path)
    assert ours(other, "--ca", people.ca) == 2
    assert dcmsign("--verify", "+rg", "+cf", people.ca, other).returncode != 0


@pytest.mark.parametrize("name", SYNTAXES)
def test_each_encoding_both_ways(name: str, people: People, tmp_path: Path) -> None:
    key, certificate = people.key_and_certificate("rsa")
    by_us, by_them = tmp_path / "ours.dcm", tmp_path / "theirs.dcm"
    assert ours(DATA / name, "-o", by_us, "--key", key, "--cert", certificate) == 0
    check(by_us, people)
    made = dcmsign("+s", key, certificate, "+m2", DATA / name, by_them)
    assert made.returncode == 0, made.stderr
    check(by_them, people)


@pytest.mark.parametrize("mac", MACS)
@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_each_algorithm_both_ways(kind: str, mac: str, people: People, tmp_path: Path) -> None:
    key, certificate = people.key_and_certificate(kind)
    by_us, by_them = tmp_path / "ours.dcm", tmp_path / "theirs.dcm"
    source = DATA / "MR_small.dcm"
    assert ours(source, "-o", by_us, "--key", key, "--cert", certificate, "--mac", mac) == 0
    check(by_us, people)
    assert dcmsign("+s", key, certificate, MACS[mac], source, by_them).returncode == 0
    check(by_them, people)


@pytest.mark.parametrize("profile", PROFILES)
def test_each_profile_both_ways(profile: str, people: People, tmp_path: Path) -> None:
    key, certificate = people.key_and_certificate("rsa")
    by_us, by_them = tmp_path / "ours.dcm", tmp_path / "theirs.dcm"
    source = report(tmp_path)
    words = ("--key", key, "--cert", certificate, "--profile", profile)
    assert ours(source, "-o", by_us, *words) == 0
    check(by_us, people)
    purpose = "5" if profile == "sr-verification" else "1"
    made = dcmsign(
        "+s", key, certificate, "+m2", PROFILES[profile], "+sp", purpose, source, by_them
    )
    assert made.returncode == 0, made.stderr
    check(by_them, people)
    required = {"creator": "+rc", "authorization": "+ru", "sr": "+rs"}.get(profile, "+rg")
    assert dcmsign("--verify", required, "+cf", people.ca, by_us).returncode == 0


@pytest.mark.parametrize("mac", ["+mr", "+ms", "+mm"])
def test_old_digests_have_a_result_of_their_own(
    mac: str, people: People, tmp_path: Path, capsys: Captured
) -> None:
    key, certificate = people.key_and_certificate("rsa")
    made = dcmsign("+s", key, certificate, mac, DATA / "MR_small.dcm", tmp_path / "theirs.dcm")
    assert made.returncode == 0, made.stderr
    assert ours(tmp_path / "theirs.dcm", "--ca", people.ca) == 2
    shown = capsys.readouterr().out
    assert "weak algorithm" in shown
    assert "no proof against" in shown
    assert ours(tmp_path / "theirs.dcm", "--ca", people.ca, "--accept-weak") == 0
    assert "no proof against" in capsys.readouterr().out


def test_signatures_of_both_in_items_and_beside_each_other(people: People, tmp_path: Path) -> None:
    key, certificate = people.key_and_certificate("ecdsa")
    signer = ("--key", key, "--cert", certificate)
    steps = [tmp_path / f"{number}.dcm" for number in range(5)]
    place = "ContentSequence[1]"
    assert (
        dcmsign("+si", key, certificate, place, "+m2", report(tmp_path), steps[0]).returncode == 0
    )
    assert ours(steps[0], "-o", steps[1], *signer, "--item", "(0040,A730)[0]") == 0
    assert ours(steps[1], "-o", steps[2], *signer, "--purpose", "3") == 0
    assert dcmsign("+s", key, certificate, "+m5", steps[2], steps[3]).returncode == 0
    assert ours(steps[3], "-o", steps[4], *signer, "--item", "(0040,A730)[1]") == 0
    check(steps[4], people)
    found = dcmsign("--verify", "+cf", people.ca, "-v", steps[4])
    assert "5 signatures verified in dataset, 0 corrupted" in found.stdout + found.stderr


@pytest.mark.parametrize("name", ["MR_small_bigendian.dcm", "MR_small_RLE.dcm", "reportsi.dcm"])
def test_the_bytes_that_the_mac_covers_are_theirs(
    name: str, people: People, tmp_path: Path
) -> None:
    """Up to what says who signed when, which is another each time."""
    key, certificate = people.key_and_certificate("rsa")
    mine, theirs = tmp_path / "ours.mac", tmp_path / "theirs.mac"
    words = ("--key", key, "--cert", certificate, "--dump", mine)
    assert ours(DATA / name, "-o", tmp_path / "a.dcm", *words) == 0
    words = ("+s", key, certificate, "+m2", "+d", theirs, DATA / name, tmp_path / "b.dcm")
    assert dcmsign(*words).returncode == 0
    signed_by_us, signed_by_them = mine.read_bytes(), theirs.read_bytes()
    end = signed_by_them.rindex(b"\x00\x04\x05\x00US")
    assert mine.stat().st_mode & 0o777 == 0o600
    assert signed_by_us[:end] == signed_by_them[:end]
    assert signed_by_us[end : end + 16] == signed_by_them[end : end + 16]


def test_a_revoked_signer_is_none_for_both(people: People, tmp_path: Path) -> None:
    key, certificate = people.key_and_certificate("rsa")
    signed = tmp_path / "signed.dcm"
    words = ("--key", key, "--cert", certificate)
    assert ours(DATA / "MR_small.dcm", "-o", signed, *words) == 0
    for revoked, code in (((), 0), ((people.signers["rsa"],), 2)):
        crl = tmp_path / f"{len(revoked)}.crl"
        made = revocation_list(people.authority, *revoked)
        crl.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        assert ours(signed, "--ca", people.ca, "--crl", crl) == code
        found = dcmsign("--verify", "+rg", "+cf", people.ca, "+cr", crl, signed)
        assert (found.returncode != 0) is (code != 0), found.stderr


# -- Time stamps -------------------------------------------------------------------------


class Stamper:
    """A time stamping authority: OpenSSL behind a page of HTTP."""

    def __init__(self, folder: Path, authority: Issued) -> None:
        self._folder = folder
        key, certificate = stamper(authority).write(folder, "stamper")
        ca = authority.write(folder, "stamper-ca")[1]
        (folder / "serial").write_text("01\n")
        (folder / "tsa.cnf").write_text(
            f"[tsa]\ndefault_tsa=t\n[t]\nserial={folder / 'serial'}\ncrypto_device=builtin\n"
            f"signer_cert={certificate}\ncerts={ca}\nsigner_key={key}\nsigner_digest=sha256\n"
            "default_policy=1.2.3.4.1\nother_policies=1.2.3.4.2\ndigests=sha256,sha384,sha512\n"
            "accuracy=secs:1\nordering=yes\ntsa_name=yes\ness_cert_id_alg=sha256\n"
        )

    def reply(self, query: bytes) -> bytes:
        (self._folder / "q.tsq").write_bytes(query)
        subprocess.run(
            ["openssl", "ts", "-reply", "-config", "tsa.cnf", "-queryfile", "q.tsq",
             "-out", "q.tsr"],
            cwd=self._folder, check=True, capture_output=True, timeout=60,
        )  # fmt: skip
        return (self._folder / "q.tsr").read_bytes()


@pytest.fixture
def stamping(people: People, tmp_path: Path) -> Iterator[tuple[Stamper, str]]:
    authority = Stamper(tmp_path, people.authority)

    class Page(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = authority.reply(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield authority, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_a_time_stamp_of_ours_holds_for_them(
    people: People, tmp_path: Path, stamping: tuple[Stamper, str], capsys: Captured
) -> None:
    key, certificate = people.key_and_certificate("ecdsa")
    signed = tmp_path / "signed.dcm"
    words = ("--key", key, "--cert", certificate, "--tsa", stamping[1])
    assert ours(DATA / "MR_small.dcm", "-o", signed, *words) == 0
    found = dcmsign("--verify", "+tr", "+cf", people.ca, signed)
    assert found.returncode == 0, found.stderr
    assert ours(signed, "--ca", people.ca) == 0
    assert "time stamp 2" in capsys.readouterr().out
    # Of another authority, and with one bit of the token another one, it does not hold.
    other = issue("Other", rsa_key("other"), authority=True).write(tmp_path, "other")[1]
    assert ours(signed, "--ca", people.ca, "--tsa-ca", other) == 2
    dataset = pydicom.dcmread(signed)
    item = dataset.DigitalSignaturesSequence[0]
    token = item.CertifiedTimestamp
    for at in range(0, len(token) - 2, 97):
        item.CertifiedTimestamp = token[:at] + bytes((token[at] ^ 4,)) + token[at + 1 :]
        dataset.save_as(tmp_path / "broken.dcm")
        # Certificates that come along may be others: what counts is signed, or is the signature.
        assert ours(tmp_path / "broken.dcm", "--ca", people.ca) in (0, 2), at
    for at in range(len(token) - 180, len(token) - 2, 17):  # of the signature's value
        item.CertifiedTimestamp = token[:at] + bytes((token[at] ^ 4,)) + token[at + 1 :]
        dataset.save_as(tmp_path / "broken.dcm")
        capsys.readouterr()
        assert ours(tmp_path / "broken.dcm", "--ca", people.ca) == 2, at
        assert "its time stamp" in capsys.readouterr().out, at


def test_a_time_stamp_of_theirs_holds_for_us(
    people: People, tmp_path: Path, stamping: tuple[Stamper, str], capsys: Captured
) -> None:
    key, certificate = people.key_and_certificate("rsa")
    signed, stamped = tmp_path / "signed.dcm", tmp_path / "stamped.dcm"
    query, uid, reply = tmp_path / "a.tsq", tmp_path / "a.uid", tmp_path / "a.tsr"
    words = ("+s", key, certificate, "+m2", "+ts", query, uid, DATA / "MR_small.dcm", signed)
    assert dcmsign(*words).returncode == 0
    reply.write_bytes(stamping[0].reply(query.read_bytes()))
    assert dcmsign("+t", query, reply, uid, signed, stamped).returncode == 0
    assert ours(stamped, "--ca", people.ca) == 0
    assert "time stamp 2" in capsys.readouterr().out
