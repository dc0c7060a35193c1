"""``isocenter dicomweb`` against our own server, and against one that does as a test says."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pydicom
import pytest
import trio
from pydicom.data import get_testdata_file

from isocenter.services.cli import main
from isocenter.services.net.listeners import ListenAddress
from isocenter.services.net.tls.contexts import TlsFiles, server_context
from isocenter.services.security.certificates.authority import CertificateAuthority
from support.studies import ROOT, instance, write_studies
from support.threads import in_thread
from support.web_archive import (
    Answer,
    Asked,
    Scripted,
    dicomweb_serving,
    http_serving,
)

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two studies of two series of two instances, and what is no DICOM."""
    folder = tmp_path_factory.mktemp("in")
    found = write_studies(folder)
    (folder / "notes.txt").write_text("no image")
    return found


@pytest.fixture(scope="module")
def url(files: list[Path]) -> Iterator[str]:
    """A server with `files` in it, put there by the command."""
    with in_thread(partial(dicomweb_serving, default=3, most=1000, codecs=True)) as address:
        assert main(["dicomweb", "store", address, str(files[0].parent)]) == 0
        yield address


def run(capsys: Captured, *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["dicomweb", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


# -- Search ------------------------------------------------------------------------------


def test_search_in_each_form(url: str, capsys: Captured) -> None:
    code, out, _ = run(capsys, "search", url, "--patient-name", "Müller*", "-o", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0
    assert sorted(row["StudyInstanceUID"] for row in rows) == [f"{ROOT}.1", f"{ROOT}.2"]
    assert {row["PatientName"] for row in rows} == {"Müller^Jörg"}
    code, out, _ = run(capsys, "search", url, "-k", "0008,0050=A2", "-o", "json")
    (match,) = json.loads(out)
    assert match["0020000D"]["Value"] == [f"{ROOT}.2"]
    for form, shown in (
        ("text", "(0010,0010) PN PatientName: Müller"),
        ("table", "A1"),
        ("xml", "<Value"),
    ):
        code, out, _ = run(capsys, "search", url, "-o", form)
        assert code == 0
        assert shown in out
    code, out, _ = run(capsys, "search", url, "-L", "IMAGE", "-o", "json", "--limit", "5")
    assert len(json.loads(out)) == 5


def test_search_within_what_the_address_names(url: str, capsys: Captured) -> None:
    _, out, _ = run(capsys, "search", f"{url}/studies/{ROOT}.1", "-o", "json")
    assert [one["0020000E"]["Value"] for one in json.loads(out)] == [
        [f"{ROOT}.1.1"], [f"{ROOT}.1.2"],
    ]  # fmt: skip
    series = f"{url}/studies/{ROOT}.1/series/{ROOT}.1.2"
    _, out, _ = run(capsys, "search", series, "-o", "json", "-k", "InstanceNumber=2")
    assert [one["00080018"]["Value"] for one in json.loads(out)] == [[f"{ROOT}.1.2.2"]]


def test_no_match_and_warnings(url: str, capsys: Captured) -> None:
    words = ("--patient-id", "NOBODY", "-o", "json", "-k", "TimezoneOffsetFromUTC=+0100")
    code, out, err = run(capsys, "search", url, *words)
    assert (code, out) == (1, "[]\n")
    assert "no match" in err
    assert "the server warns: " in err


# -- Retrieve ----------------------------------------------------------------------------


def dicom_files(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.rglob("*.dcm"))


def test_retrieve_a_study_and_go_on_where_it_ended(
    url: str, files: list[Path], tmp_path: Path, capsys: Captured
) -> None:
    code, _, err = run(capsys, "retrieve", url, "--study-uid", f"{ROOT}.1", "-od", tmp_path)
    assert (code, err) == (0, "4 files written\n")
    sent = [pydicom.dcmread(path) for path in files]
    for item in (one for one in sent if f"{ROOT}.1" == one.StudyInstanceUID):
        name = f"{item.StudyInstanceUID}/{item.SeriesInstanceUID}/{item.SOPInstanceUID}.dcm"
        assert pydicom.dcmread(tmp_path / name) == item
    next(tmp_path.rglob("*.dcm")).unlink()
    code, _, err = run(
        capsys, "retrieve", f"{url}/studies/{ROOT}.1", "-od", tmp_path, "--skip-existing"
    )
    assert (code, err) == (
        0, "1 files written, 3 were there already (--overwrite replaces them)\n",
    )  # fmt: skip
    assert len(dicom_files(tmp_path)) == 4


def test_retrieve_what_keys_match(url: str, tmp_path: Path, capsys: Captured) -> None:
    code, _, _ = run(
        capsys, "retrieve", url, "--accession-number", "A2", "-od", tmp_path, "--structure", "flat"
    )
    assert code == 0
    assert dicom_files(tmp_path) == [
        f"{ROOT}.2.{series}.{number}" for series in (1, 2) for number in (1, 2)
    ]
    other = tmp_path / "other"
    code, _, err = run(
        capsys, "retrieve", url, "-L", "IMAGE", "-k", "InstanceNumber=2", "--study-uid",
        f"{ROOT}.1", "-od", other, "--output-format", "{study}/{instance}.dcm",
        "--transfer-syntax", "ImplicitVRLittleEndian", "--transfer-syntax", "1.2.840.10008.1.2.1",
    )  # fmt: skip
    assert code == 0, err
    assert dicom_files(other / f"{ROOT}.1") == [f"{ROOT}.1.1.2", f"{ROOT}.1.2.2"]
    # The study of a series is found out.
    code, _, err = run(
        capsys, "retrieve", url, "--series-uid", f"{ROOT}.2.1", "-od", tmp_path / "s"
    )
    assert (code, err) == (0, "2 files written\n")
    code, _, err = run(capsys, "retrieve", url, "--accession-number", "A9", "-od", tmp_path)
    assert code == 1
    assert "nothing matched" in err


def test_frames_and_what_is_not_there(url: str, tmp_path: Path, capsys: Captured) -> None:
    image = f"{url}/studies/{ROOT}.1/series/{ROOT}.1.1/instances/{ROOT}.1.1.1"
    code, _, _ = run(capsys, "retrieve", f"{image}/frames/1", "-od", tmp_path)
    assert code == 0
    assert (tmp_path / f"{ROOT}.1.1.1.00001.bin").read_bytes() == instance().PixelData
    _, out, _ = run(capsys, "metadata", image, "-o", "json")
    uri = json.loads(out)[0]["7FE00010"]["BulkDataURI"]
    code, _, _ = run(capsys, "retrieve", uri, "-od", tmp_path)
    assert code == 0
    assert (tmp_path / f"{ROOT}.1.1.1.7FE00010.bin").read_bytes() == instance().PixelData
    code, _, err = run(capsys, "retrieve", uri, "-od", tmp_path)
    assert code == 2
    assert "is there already" in err
    code, _, err = run(capsys, "retrieve", f"{image}9", "-od", tmp_path)
    assert code == 1
    assert "404 Not Found: the archive has no such instance" in err


def test_metadata(url: str, capsys: Captured) -> None:
    code, out, _ = run(capsys, "metadata", f"{url}/studies/{ROOT}.1", "-o", "json")
    found = json.loads(out)
    assert code == 0
    assert len(found) == 4
    assert found[0]["7FE00010"]["BulkDataURI"].startswith(url)
    code, out, _ = run(capsys, "metadata", url, "--accession-number", "A1", "-o", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["InstanceNumber"] for row in rows] == ["1", "2", "1", "2"]


@pytest.mark.slow
def test_pictures(
    url: str, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = get_testdata_file("CT_small.dcm")
    head = pydicom.dcmread(str(path), stop_before_pixels=True)
    assert main(["dicomweb", "store", url, str(path)]) == 0
    monkeypatch.chdir(tmp_path)
    uids = ["--study-uid", head.StudyInstanceUID]
    code, _, _ = run(capsys, "render", url, *uids, "--window", "40,400", "--viewport", "64,64")
    assert code == 0
    assert (tmp_path / f"{head.StudyInstanceUID}.jpg").read_bytes().startswith(b"\xff\xd8")
    code, _, _ = run(capsys, "render", url, *uids, "--thumbnail", "-O", "a.png", "--format", "png")
    assert code == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    code, _, err = run(capsys, "render", url, *uids, "-O", "a.png", "--format", "png")
    assert code == 2
    assert "a.png is there already" in err
    code, _, err = run(capsys, "render", url, *uids, "--frame", "1")
    assert code == 2


# -- Store -------------------------------------------------------------------------------


def test_store_and_its_report(
    url: str, files: list[Path], tmp_path: Path, capsys: Captured
) -> None:
    report = tmp_path / "report.jsonl"
    other = f"{url}/studies/{ROOT}.1"
    code, _, err = run(
        capsys,
        "store",
        other,
        files[0],
        "--report-file",
        report,
        files[-1],
        files[0].parent / "notes.txt",
    )
    assert code == 1
    assert "1 sent in " in err
    assert "1 failed, 1 not DICOM" in err
    assert "the server answered A901H" in err
    outcomes = [json.loads(line) for line in report.read_text("utf-8").splitlines()]
    assert {(one["outcome"], one.get("status")) for one in outcomes} == {
        ("sent", None), ("failed", "A901"), ("not DICOM", None),
    }  # fmt: skip
    code, _, err = run(capsys, "store", other, "--stop-on-error", files[-1], files[0])
    assert code == 1
    assert err.endswith("1 failed\n")


# -- Arguments, errors, Ctrl-C ------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["search", "archive:8080"], "an address of a service is like"),
        (["search", "http://u:p@127.0.0.1/"], "no user and password"),
        (["search", "http://127.0.0.1:9/dicomweb", "-L", "PATIENT"], "no level PATIENT"),
        (["search", "http://127.0.0.1:9/dicomweb", "-k", "NoSuch=1"], "no keyword"),
        (["search", "http://127.0.0.1:9/dicomweb", "--tls-ca", "ca.crt"], "begins with http"),
        (["search", "http://127.0.0.1:9/dicomweb", "--user", "me"], "needs --password-file"),
        (["retrieve", "http://127.0.0.1:9/dicomweb"], "of what?"),
        (["retrieve", "http://127.0.0.1:9/studies/1.2", "--study-uid", "1.2"], "names it already"),
        (["store", "http://127.0.0.1:9/dicomweb", "no-such-file"], "no such file"),
        (["delete", "http://127.0.0.1:9/dicomweb", "--study-uid", "1.2"], "say so with --yes"),
    ],
)
def test_arguments_that_cannot_be(
    arguments: list[str],
    said: str,
    capsys: Captured,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert said in err


def test_nobody_listens_and_nobody_is_let_in(capsys: Captured, tmp_path: Path) -> None:
    async def refuses(asked: Asked) -> Answer:
        return 401, [("www-authenticate", "Bearer"), ("content-type", "text/plain")], [b"who?"]

    with in_thread(partial(http_serving, Scripted(refuses))) as address:
        code, _, err = run(capsys, "search", address)
        assert code == 1
        assert "401 Unauthorized: who?; give a token (--token-file)" in err
    code, _, err = run(capsys, "search", address, "--timeout", "60")
    assert code == 2
    assert "connection refused" in err


def test_who_we_are_and_what_else_is_sent(capsys: Captured, tmp_path: Path) -> None:
    async def empty(asked: Asked) -> Answer:
        return 200, [("content-type", "application/dicom+json")], [b"[]"]

    scripted = Scripted(empty)
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    with in_thread(partial(http_serving, scripted)) as address:
        run(capsys, "search", address, "--token-file", secret, "--header", "X-Site: one")
        run(capsys, "search", address, "--user", "me", "--password-file", secret)
        with pytest.raises(SystemExit):
            run(capsys, "search", address, "--header", "Host: evil")
    first, second = (one.headers for one in scripted.asked)
    assert (first["authorization"], first["x-site"]) == ("Bearer s3cret", "one")
    assert second["authorization"] == "Basic bWU6czNjcmV0"


def test_over_tls_with_a_certificate(tmp_path: Path, capsys: Captured) -> None:
    ca = CertificateAuthority.create(tmp_path / "ca")
    for name in ("HERE", "VIEWER"):
        ca.issue(name, hosts=["127.0.0.1"], folder=tmp_path)
    files = TlsFiles(
        certificate=tmp_path / "HERE.crt", key=tmp_path / "HERE.key", ca=ca.certificate_path
    )
    context = server_context(files, protocols=("h2", "http/1.1"))
    bind = ListenAddress(host="127.0.0.1", port=0, tls=lambda: context)

    async def empty(asked: Asked) -> Answer:
        return 200, [("content-type", "application/dicom+json")], [b"[]"]

    own = ["--tls-cert", tmp_path / "VIEWER.crt", "--tls-key", tmp_path / "VIEWER.key"]
    trust = ["--tls-ca", ca.certificate_path]
    with in_thread(partial(http_serving, Scripted(empty), bind)) as address:
        for more in ([], ["--http2"]):
            code, _, err = run(capsys, "search", address, *own, *trust, *more)
            assert (code, err) == (1, "no match\n")
        code, _, err = run(capsys, "search", address, *own)
        assert code == 2
        assert "the peer's certificate was refused" in err
        assert run(capsys, "search", address, *own, "--tls-no-verify")[0] == 1
        # Without a certificate nobody is let in.
        code, _, err = run(capsys, "search", address, *trust)
        assert code != 0


def test_delete_asks_the_server(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    async def deletes(asked: Asked) -> Answer:
        return 204, [], []

    scripted = Scripted(deletes)
    with in_thread(partial(http_serving, scripted)) as address:
        code, _, err = run(capsys, "delete", f"{address}/w", "--study-uid", "1.2", "--yes")
    assert (code, err) == (0, "/studies/1.2\n1 deleted\n")
    assert [(one.method, one.target) for one in scripted.asked] == [("DELETE", "/w/studies/1.2")]


def test_ctrl_c_leaves_no_half_file(tmp_path: Path, capsys: Captured) -> None:
    """The signal comes in the middle of an object."""
    from io import BytesIO

    written = BytesIO()
    pydicom.dcmwrite(written, instance(rows=1024), enforce_file_format=True)
    data = written.getvalue()

    async def stalls(asked: Asked) -> Answer:
        raise AssertionError("it answers by itself")

    class Stalling(Scripted):
        async def __call__(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]
            kind = (b"content-type", b"application/dicom")
            await send({"type": "http.response.start", "status": 200, "headers": [kind]})
            await send({"type": "http.response.body", "body": data[:-1000], "more_body": True})
            os.kill(os.getpid(), signal.SIGINT)
            await trio.sleep_forever()

    with in_thread(partial(http_serving, Stalling(stalls))) as address:
        code, _, err = run(capsys, "retrieve", address, "--study-uid", f"{ROOT}.1", "-od", tmp_path)
    assert code == 130
    assert "cancelled; 0 files written" in err
    assert list(tmp_path.rglob("*")) == []
