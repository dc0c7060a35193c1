"""DELETE over DICOMweb: off unless it is set, into the trash, with its trace in the audit trail."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import httpx
import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient

from support.processes import ServedArchive, isocenter_command, served_archive
from support.studies import write_studies


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedArchive]:
    folder = tmp_path_factory.mktemp("deletion")
    config = folder / "web.toml"
    config.write_text("[web]\ndeletes = true\n")
    with served_archive(folder, "--config", config) as served:
        files = write_studies(folder / "in", studies=3, series=2, instances=2)
        DICOMwebClient(served.web_url).store_instances([pydicom.dcmread(one) for one in files])
        yield served


def uids_of(archive: ServedArchive, number: int) -> tuple[str, str, str]:
    found = httpx.get(f"{archive.web_url}/instances").json()
    studies = sorted({one["0020000D"]["Value"][0] for one in found})
    one = next(one for one in found if one["0020000D"]["Value"][0] == studies[number])
    study, series, instance = (one[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018"))
    return study, series, instance


def command(archive: ServedArchive, *words: object) -> str:
    done = isocenter_command(*words, "--data-dir", archive.data_dir)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_an_instance_a_series_and_a_study(archive: ServedArchive) -> None:
    url = archive.web_url
    study, series, instance = uids_of(archive, 0)
    of_study = f"{url}/studies/{study}"
    of_series = f"{of_study}/series/{series}"
    of_instance = f"{of_series}/instances/{instance}"
    client = DICOMwebClient(url)
    client.delete_instance(study, series, instance)
    for path in ("", "/metadata", "/rendered", "/frames/1"):
        assert httpx.get(of_instance + path).status_code == 410
    assert httpx.get(
        f"{url}/wado", params={"requestType": "WADO", "objectUID": instance}
    ).status_code == 410  # fmt: skip
    assert httpx.delete(of_instance).status_code == 410
    assert httpx.get(f"{of_series}/metadata").status_code == 200
    assert len(httpx.get(f"{of_study}/instances").json()) == 3
    client.delete_series(study, series)
    assert httpx.get(of_series).status_code == 410
    assert httpx.get(of_study, headers={"accept": "*/*"}).status_code == 200
    answer = httpx.delete(f"{of_study}?reason=sent+by+mistake")
    assert (answer.status_code, answer.content) == (204, b"")
    assert httpx.get(of_study).status_code == 410
    assert study not in httpx.get(f"{url}/studies").text
    assert "sent by mistake" in command(archive, "trash", "list")
    trail = "".join(one.read_text() for one in (archive.data_dir / "audit").glob("*.jsonl"))
    (told,) = (line for line in trail.splitlines() if "DICOM Study Deleted" in line)
    assert b64encode(b"sent by mistake").decode() in told
    assert 'UserID=\\"127.0.0.1\\"' in told
    # Whoever restores it finds it again; what is purged was never here.
    command(archive, "trash", "restore", "--study", study)
    assert len(httpx.get(f"{of_study}/instances").json()) == 4


def test_what_is_not_there_and_what_must_stay(archive: ServedArchive) -> None:
    url = archive.web_url
    study, series, _ = uids_of(archive, 1)
    other = uids_of(archive, 2)[0]
    for path in ("/1.2.3", f"/{study}/series/1.2.3", f"/{other}/series/{series}"):
        path = f"/studies{path}"
        assert httpx.delete(url + path).status_code == 404
    command(archive, "hold", "add", study, "--reason", "a lawsuit")
    answer = httpx.delete(f"{url}/studies/{study}")
    assert answer.status_code == 409
    assert "held" in answer.json()["error"]["message"]
    assert httpx.delete(f"{url}/studies/{study}?reason=%0a").status_code == 400
    assert len(httpx.get(f"{url}/studies/{study}/instances").json()) == 4


def test_a_page_of_another_origin_deletes_nothing(archive: ServedArchive) -> None:
    study = uids_of(archive, 2)[0]
    answer = httpx.delete(
        f"{archive.web_url}/studies/{study}", headers={"origin": "https://evil.example"}
    )
    assert answer.status_code == 403


def test_the_methods_of_a_study(archive: ServedArchive, tmp_path: Path) -> None:
    study = uids_of(archive, 2)[0]
    answer = httpx.put(f"{archive.web_url}/studies/{study}")
    assert answer.headers["allow"] == "DELETE, GET, HEAD, OPTIONS, POST"
    assert httpx.delete(f"{archive.web_url}/studies").status_code == 405


def test_purged_objects_were_never_here(archive: ServedArchive) -> None:
    study = uids_of(archive, 2)[0]
    assert httpx.delete(f"{archive.web_url}/studies/{study}").status_code == 204
    command(archive, "trash", "purge", "--study", study, "--yes")
    assert httpx.get(f"{archive.web_url}/studies/{study}").status_code == 404
