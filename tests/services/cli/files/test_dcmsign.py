"""`dcmsign` as it is typed: what it writes and says, its exit codes, and what it refuses."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from pathlib import Path

import pydicom
import pytest

from isocenter.services.cli import main
from support.signers import Issued, issue, rsa_key

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
DATA = Path(pydicom.__file__).parent / "data" / "test_files"
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    return Path(shutil.copy(DATA / "CT_small.dcm", tmp_path / "ct.dcm"))


@pytest.fixture
def authority(tmp_path: Path) -> Issued:
    return issue("Authority", authority=True)


@pytest.fixture
def signer(authority: Issued, tmp_path: Path) -> list[str]:
    key, certificate = issue("Signer", by=authority).write(tmp_path, "signer")
    authority.write(tmp_path, "ca")
    return ["--key", str(key), "--cert", str(certificate)]


def test_a_file_is_signed_in_its_place_and_verified(
    ct: Path, signer: list[str], tmp_path: Path, capsys: Captured
) -> None:
    before = ct.read_bytes()
    assert main(["dcmsign", str(ct), *signer]) == 0
    assert (tmp_path / "ct.dcm.bak").read_bytes() == before
    assert main(["dcmsign", "--verify", str(ct), "--ca", str(tmp_path / "ca.pem")]) == 0
    said = capsys.readouterr().out
    assert ": valid\n  by Signer, Hospital, certificate of O=Hospital,CN=Authority\n" in said
    assert "all that may be signed" in said
    assert main(["dcmsign", str(ct), "--remove", "all", "-o", str(tmp_path / "plain.dcm")]) == 0
    assert (tmp_path / "plain.dcm").read_bytes() == before


def test_a_name_in_a_certificate_does_nothing_to_the_terminal(
    ct: Path, tmp_path: Path, capsys: Captured
) -> None:
    key, certificate = issue("\x1b[2J\nct.dcm: valid").write(tmp_path, "signer")
    assert main(["dcmsign", str(ct), "-nb", "--key", str(key), "--cert", str(certificate)]) == 0
    assert main(["dcmsign", "--verify", str(ct)]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "by \\x1b[2J\\x0act.dcm: valid, Hospital" in said


def test_what_came_of_it_is_in_the_exit_code_and_in_json(
    ct: Path, signer: list[str], tmp_path: Path, capsys: Captured
) -> None:
    ca = ["--ca", str(tmp_path / "ca.pem")]
    assert main(["dcmsign", str(ct), *ca]) == 2
    assert capsys.readouterr().out == f"{ct}: no signature\n"
    assert main(["dcmsign", str(ct), *ca, "--if-present"]) == 0
    assert main(["dcmsign", str(ct), *signer, "-nb", "-t", "PatientID", "-t", "0008,0018"]) == 0
    capsys.readouterr()
    assert main(["dcmsign", str(ct), *ca, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["signatures"]
    assert found["state"] == "valid"
    assert found["signed"] == ["00080018", "00100020"]
    assert found["signer"]["common_name"] == "Signer"
    other = issue("Other", authority=True).write(tmp_path, "other")[1]
    assert main(["dcmsign", str(ct), "--ca", str(other)]) == 2
    assert "untrusted signer: its certificate: no certificate that is trusted" in (
        capsys.readouterr().out
    )
    assert main(["dcmmodify", str(ct), "-m", "PatientID=9", "-nb"]) == 0
    assert main(["dcmsign", str(ct), *ca]) == 2
    assert "invalid: what it covers was changed" in capsys.readouterr().out


def test_without_anybody_to_trust_that_is_said(
    ct: Path, signer: list[str], capsys: Captured
) -> None:
    assert main(["dcmsign", str(ct), *signer]) == 0
    assert main(["dcmsign", str(ct)]) == 0
    assert "anybody may have made it" in capsys.readouterr().out


def test_a_folder_is_signed_into_another(signer: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("CT_small.dcm", "MR_small.dcm"):
        shutil.copy(DATA / name, folder)
    assert main(["dcmsign", "-r", str(folder), "-o", str(tmp_path / "out"), *signer]) == 0
    assert main(["dcmsign", "-r", str(tmp_path / "out"), "--ca", str(tmp_path / "ca.pem")]) == 0


def test_a_key_with_a_password(ct: Path, tmp_path: Path, capsys: Captured) -> None:
    from cryptography.hazmat.primitives import serialization

    one = issue("Signer", rsa_key("signer"))
    key, certificate = one.write(tmp_path, "signer")
    key.write_bytes(
        one.key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    (tmp_path / "password").write_text("secret\n")
    words = ["dcmsign", str(ct), "--key", str(key), "--cert", str(certificate)]
    assert main(words) == 1
    assert "it has a password" in capsys.readouterr().err
    assert main([*words, "--key-password-file", str(tmp_path / "password")]) == 0
    (tmp_path / "password").write_text("other")
    assert main([*words, "--key-password-file", str(tmp_path / "password")]) == 1


def test_what_cannot_be_is_said_and_nothing_is_written(
    ct: Path, signer: list[str], tmp_path: Path, capsys: Captured
) -> None:
    before = ct.read_bytes()

    def refused(*words: str, code: int = 1) -> str:
        assert main(["dcmsign", *words]) == code
        return capsys.readouterr().err

    path = str(ct)
    assert "both --key and --cert" in refused(path, *signer[:2])
    assert "one at a time" in refused(path, *signer, "--verify")
    assert "writes no file" in refused(path, "-o", "x")
    assert "need --ca" in refused(path, "--chain", str(tmp_path / "ca.pem"))
    assert "No such file" in refused(path, *signer[:2], "--cert", str(tmp_path / "none"))
    assert "no certificate" in refused(path, "--ca", path)
    assert "no key" in refused(path, "--key", path, *signer[2:])
    other = issue("Other").write(tmp_path, "other")[0]
    assert "another key" in refused(path, "--key", str(other), *signer[2:])
    assert "path of one item" in refused(path, *signer, "--item", "(0040,A730)[*]")
    assert "has no item 0: it has 0" in refused(path, *signer, "--item", "0040A730[0]", code=2)
    assert "may not be signed" in refused(path, *signer, "-t", "0002,0010", code=2)
    assert "Creator RSA covers also" in refused(
        path, *signer, "-t", "PatientID", "--profile", "creator", code=2
    )
    assert "no signature" in refused(path, "--remove", "all", code=2)
    assert "not DICOM" in refused(str(tmp_path / "signer.pem"), *signer, code=2)
    assert "http" in refused(path, *signer, "--tsa", "ftp://x")
    assert "--tsa http://127.0.0.1:1/" in refused(
        path, *signer, "--tsa", "http://127.0.0.1:1/", code=2
    )
    assert "control characters" in refused(path, *signer, "--tsa", "http://a b/", code=2)
    assert "Invalid IPv6 URL" in refused(path, *signer, "--tsa", "http://[x/")
    assert ct.read_bytes() == before
    assert not list(tmp_path.glob("*.bak"))


def test_an_authority_that_speaks_no_http_is_a_fault(
    ct: Path, signer: list[str], capsys: Captured
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            connection, _ = server.accept()
            with connection:
                asked = b""
                while not asked.endswith(b"\x01\x01\xff"):  # the end of a query
                    asked += connection.recv(4_096)
                connection.sendall(b"220 no HTTP\r\n")

        thread = threading.Thread(target=hang_up)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        assert main(["dcmsign", str(ct), *signer, "--tsa", url]) == 2
        thread.join()
    assert f"--tsa {url}: 220 no HTTP" in capsys.readouterr().err


def test_what_conversion_does_to_signatures_is_said(
    signer: list[str], tmp_path: Path, capsys: Captured
) -> None:
    signed, ca = tmp_path / "signed.dcm", ["--ca", str(tmp_path / "ca.pem")]
    assert main(["dcmsign", str(DATA / "MR_small.dcm"), "-o", str(signed), *signer]) == 0
    for option in ("--implicit", "--explicit-be", "--deflated"):
        made = tmp_path / f"{option}.dcm"
        assert main(["dcmconv", str(signed), str(made), option]) == 0
        assert main(["dcmsign", str(made), *ca]) == 0, option
    assert "signatures" not in capsys.readouterr().err
    made = tmp_path / "rle.dcm"
    assert main(["dcmconv", str(signed), str(made), "--rle"]) == 0
    assert "its digital signatures were left out" in capsys.readouterr().err
    assert main(["dcmsign", str(made), *ca]) == 2
    dataset = pydicom.dcmread(signed)
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientComments = "M\xfcller"
    dataset.save_as(signed)
    assert main(["dcmconv", str(signed), str(tmp_path / "utf8.dcm"), "--to-utf8"]) == 0
    assert "its digital signatures do not fit any more" in capsys.readouterr().err
