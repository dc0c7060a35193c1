"""DICOMweb of a served archive: what comes by DIMSE goes out over HTTP, and the other way."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient

from services.service_classes.mpps.samples import begun
from support.pages import text_of
from support.processes import ServedArchive, isocenter_command, run, served_archive
from support.studies import ROOT, write_studies


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedArchive]:
    with served_archive(tmp_path_factory.mktemp("web")) as served:
        yield served


@pytest.mark.interop("storescu", "findscu", "getscu")
def test_there_and_back(archive: ServedArchive, tmp_path: Path) -> None:
    files = write_studies(tmp_path / "in", studies=2, series=2, instances=3)
    run("storescu", "-aec", archive.ae_title, "127.0.0.1", archive.port, *files[:6])
    url = archive.web_url
    client = DICOMwebClient(url)
    (study,) = client.search_for_studies()
    uid = study["0020000D"]["Value"][0]
    assert study["00201208"]["Value"] == [6]
    got = client.retrieve_study(uid, media_types=(("application/dicom", "*"),))
    sent = {one.SOPInstanceUID: one for one in map(pydicom.dcmread, files[:6])}
    assert {one.SOPInstanceUID: one for one in got} == sent
    assert len(client.retrieve_study_metadata(uid)) == 6
    # What came over the web is found and fetched by DIMSE.
    client.store_instances([pydicom.dcmread(path) for path in files[6:]])
    other = pydicom.dcmread(files[6]).StudyInstanceUID
    out = tmp_path / "out"
    out.mkdir()
    run(
        "getscu", "-S", "-aec", archive.ae_title, "-od", out, "127.0.0.1", archive.port,
        "-k", "0008,0052=STUDY", "-k", f"0020,000D={other}",
    )  # fmt: skip
    assert len(list(out.iterdir())) == 6


@pytest.mark.interop("storescu", "findscu")
def test_a_search_finds_what_findscu_finds(archive: ServedArchive, tmp_path: Path) -> None:
    files = write_studies(tmp_path / "in", studies=3, series=2, instances=1)
    run("storescu", "-aec", archive.ae_title, "127.0.0.1", archive.port, *files)
    client = DICOMwebClient(archive.web_url)
    for level, keys in (
        ("STUDY", {"PatientName": "M*"}),
        ("STUDY", {"PatientName": "*LL?R^*"}),
        ("STUDY", {"StudyDate": "20260101-20260102", "ModalitiesInStudy": "CT"}),
        ("STUDY", {"StudyDate": "-20251231"}),
        ("STUDY", {"AccessionNumber": "A2"}),
        ("STUDY", {"StudyInstanceUID": f"{ROOT}.1\\{ROOT}.3"}),
        ("SERIES", {"StudyInstanceUID": f"{ROOT}.2", "SeriesNumber": "02"}),
        ("SERIES", {"StudyInstanceUID": f"{ROOT}.3", "Modality": "MR"}),
    ):
        unique = "StudyInstanceUID" if level == "STUDY" else "SeriesInstanceUID"
        asked = {unique: "", **keys}
        words = [word for name, value in asked.items() for word in ("-k", f"{name}={value}")]
        text = run(
            "findscu", "-v", "-S", "-aec", archive.ae_title, "127.0.0.1", archive.port,
            "-k", f"QueryRetrieveLevel={level}", *words,
        ).stdout  # fmt: skip
        answers = "".join(re.split(r"Find Response: \d+", text)[1:])
        by_dimse = set(re.findall(rf"\[([0-9.]+)\] +#.* {unique}", answers))
        search = client.search_for_studies if level == "STUDY" else client.search_for_series
        key = "0020000D" if level == "STUDY" else "0020000E"
        by_web = {match[key]["Value"][0] for match in search(search_filters=keys)}
        assert by_web == by_dimse, keys


def test_a_page_of_another_origin_changes_nothing(archive: ServedArchive) -> None:
    url = archive.web_url
    for headers in (
        {"origin": "http://evil.example"},
        {"host": "evil.example"},
        {"sec-fetch-site": "cross-site"},
    ):
        answer = httpx.post(f"{url}/studies", content=b"x", headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) in (
            (403, "OTHER_ORIGIN"),
            (403, "WRONG_HOST"),
        )
    assert httpx.get(f"{url}/studies", headers={"host": "evil.example"}).status_code == 403


@pytest.mark.interop("curl")
def test_the_lines_of_the_page(archive: ServedArchive, tmp_path: Path) -> None:
    """Each curl line of the how-to, with the address and the UIDs of this archive."""
    page = text_of("docs/how-to/dicomweb.md").replace("\\\n", "")
    lines = [line.strip() for line in page.splitlines() if line.startswith("    curl ")]
    lines = [line for line in lines if "modality-" not in line]  # they need orders
    assert len(lines) >= 6
    (file,) = write_studies(tmp_path / "in", studies=1, series=1, instances=1)
    (tmp_path / "image.dcm").write_bytes(file.read_bytes())
    stored = pydicom.dcmread(file)
    (tmp_path / "report.multipart").write_bytes(report(stored))
    (tmp_path / "request.json").write_text(json.dumps(commitment_request(stored)))
    (tmp_path / "begun.json").write_text(json.dumps(begun().to_json_dict()))
    url = archive.web_url
    names = {
        "http://127.0.0.1:8080": url.removesuffix("/dicomweb"),
        "1.2.3/": f"{stored.StudyInstanceUID}/",
        "1.2.3.4/": f"{stored.SeriesInstanceUID}/",
        "1.2.3.4.5": str(stored.SOPInstanceUID),
        "Doe*": quote(str(stored.PatientName)),
        "StudyDate=20260101-": "StudyDate=19000101-",
    }
    stores = [line for line in lines if "--data-binary" in line]
    assert len(stores) == 2
    lines = [line for line in lines if "-X DELETE" not in line]  # off by default
    for line in [*stores, *(line for line in lines if line not in stores)]:
        for old, new in names.items():
            line = line.replace(old, new)
        words = ["curl", "--fail", "--silent", "--show-error", *shlex.split(line)[1:]]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, timeout=60, check=True)
        if "?PatientName" in line:
            found = [one["0020000D"]["Value"] for one in json.loads(done.stdout)]
            assert [stored.StudyInstanceUID] in found
    assert pydicom.dcmread(tmp_path / "image.dcm") == stored


def commitment_request(of: pydicom.Dataset) -> dict[str, object]:
    item = {
        "00081150": {"vr": "UI", "Value": [of.SOPClassUID]},
        "00081155": {"vr": "UI", "Value": [of.SOPInstanceUID]},
    }
    return {"00081199": {"vr": "SQ", "Value": [item]}}


def report(of: pydicom.Dataset) -> bytes:
    """A multipart body: metadata of a document of the same study, and the document."""
    values = {
        "00080016": ("UI", "1.2.840.10008.5.1.4.1.1.104.1"),
        "00080018": ("UI", f"{of.StudyInstanceUID}.7.1"),
        "00080060": ("CS", "DOC"),
        "0020000D": ("UI", of.StudyInstanceUID),
        "0020000E": ("UI", f"{of.StudyInstanceUID}.7"),
        "00200013": ("IS", 1),
    }
    model: dict[str, object] = {
        tag: {"vr": vr, "Value": [value]} for tag, (vr, value) in values.items()
    }
    model["00420011"] = {"vr": "OB", "BulkDataURI": "report"}
    return (
        b"--part\r\nContent-Type: application/dicom+json\r\n\r\n"
        + json.dumps([model]).encode()
        + b"\r\n--part\r\nContent-Type: application/pdf\r\nContent-Location: report\r\n\r\n"
        + b"%PDF-1.4 %%EOF\r\n--part--\r\n"
    )


@pytest.mark.interop("curl")
def test_over_tls_with_a_certificate(tmp_path: Path) -> None:
    config = tmp_path / "web.toml"
    config.write_text("[web]\nhttps_host = '127.0.0.1'\nhttps_port = 0\n")
    with served_archive(tmp_path, "--config", config, tls=True) as archive:
        certs = archive.data_dir / "certs"
        issued = isocenter_command("certs", "issue", "VIEWER", "--ca-dir", certs)
        assert issued.returncode == 0, issued.stdout
        found = re.search(r"https://127\.0\.0\.1:\d+/dicomweb", archive.log.read_text("utf-8"))
        assert found is not None
        (ca,) = certs.glob("ca.crt")
        (own,) = certs.rglob("VIEWER.crt")
        (key,) = certs.rglob("VIEWER.key")
        words = ["curl", "--silent", "--show-error", "--cacert", str(ca), f"{found[0]}/studies"]
        status = ["--write-out", "%{http_version} %{http_code}"]
        shown = ["--cert", str(own), "--key", str(key)]
        for more, expected in ((shown, "[]2 200"), ([], "2 401")):
            done = subprocess.run(
                [*words, *status, *more], capture_output=True, text=True, timeout=60, check=True
            )
            assert done.stdout.endswith(expected)
