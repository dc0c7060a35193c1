"""`dcmtojson` and `jsontodcm` as they are typed, and beside DCMTK's dcm2json."""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pydicom
import pytest

from isocenter.engine.dataset import (
    DEFLATED_LITTLE,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    Encoding,
    Fragments,
    write_data_set,
    write_file_meta,
)
from isocenter.engine.dataset.writer import WritableElement
from isocenter.services.cli import main

SYNTAXES = {
    EXPLICIT_LITTLE: "1.2.840.10008.1.2.1",
    IMPLICIT_LITTLE: "1.2.840.10008.1.2",
    EXPLICIT_BIG: "1.2.840.10008.1.2.2",
    DEFLATED_LITTLE: "1.2.840.10008.1.2.1.99",
}
JPEG = "1.2.840.10008.1.2.4.50"
CT = "1.2.840.10008.5.1.4.1.1.2"
DATA = Path(pydicom.__file__).parent / "data" / "test_files"


def elements(uid: str = "1.2.3", pixels: Any = b"\1\0\2\0") -> list[WritableElement]:
    return [
        (0x00080005, "CS", b"ISO_IR 100"),
        (0x00080016, "UI", CT.encode()),
        (0x00080018, "UI", uid.encode()),
        (0x00080060, "CS", b"CT"),
        (0x00100010, "PN", "Müller^Ä".encode("latin-1")),
        (0x00400275, "SQ", [[(0x00400007, "LO", "Schädel".encode("latin-1"))]]),
        (0x7FE00010, "OW", pixels),
    ]


def make(path: Path, encoding: Encoding = EXPLICIT_LITTLE, **more: Any) -> Path:
    head = write_file_meta(CT, more.get("uid", "1.2.3"), SYNTAXES[encoding], "THEM")
    path.write_bytes(head + write_data_set(elements(**more), encoding))
    return path


def make_compressed(path: Path) -> Path:
    one = elements()
    one[-1] = (0x7FE00010, "OB", Fragments((b"", b"\xff\xd8abcd")))
    path.write_bytes(write_file_meta(CT, "1.2.3", JPEG) + write_data_set(one, EXPLICIT_LITTLE))
    return path


def feed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))


# -- dcmtojson ---------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", SYNTAXES)
def test_a_file_to_standard_output(
    tmp_path: Path, encoding: Encoding, capfd: pytest.CaptureFixture[str]
) -> None:
    pixels = b"\0\1\0\2" if encoding.big_endian else b"\1\0\2\0"
    path = make(tmp_path / "ct", encoding, pixels=pixels)
    assert main(["dcmtojson", str(path), "--bulk-data", "inline"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["00020010"]["Value"] == [SYNTAXES[encoding]]
    assert found["00020016"] == {"vr": "AE", "Value": ["THEM"]}
    assert found["00100010"]["Value"] == [{"Alphabetic": "Müller^Ä"}]
    assert found["00400275"]["Value"][0]["00400007"]["Value"] == ["Schädel"]
    assert found["7FE00010"]["InlineBinary"] == "AQACAA=="


def test_formats_and_choices(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = str(make(tmp_path / "ct"))

    def run(*words: str) -> str:
        assert main(["dcmtojson", path, *words]) == 0
        return capfd.readouterr().out

    assert len(run("-c").splitlines()) == 1
    assert len(run("-p").splitlines()) > 10
    assert "7FE00010" not in run()
    assert "00020010" not in run("--no-meta")
    assert list(json.loads(run("--no-meta", "-t", "PatientName", "-t", "0008,0060"))) == [
        "00080060", "00100010",
    ]  # fmt: skip
    assert "7FE00010" not in run("--bulk-data", "inline", "--no-pixel")


def test_the_second_path_is_the_output(tmp_path: Path) -> None:
    path = make(tmp_path / "ct.dcm")
    assert main(["dcmtojson", str(path), str(tmp_path / "ct.json")]) == 0
    assert json.loads((tmp_path / "ct.json").read_bytes())


def test_a_folder_to_a_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in"
    (source / "b").mkdir(parents=True)
    make(source / "1", uid="1.1")
    make(source / "b" / "2", uid="1.2")
    (source / "README").write_text("no DICOM")
    assert main(["dcmtojson", "-r", str(source), "-o", str(tmp_path / "out")]) == 0
    names = sorted(str(one.relative_to(tmp_path / "out")) for one in tmp_path.glob("out/**/*.json"))
    assert names == ["1.json", "b/2.json"]
    assert "1 of 3 files are of another kind" in capfd.readouterr().err


def test_several_to_standard_output_are_an_array(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = [str(make(tmp_path / name, uid=f"1.{name}")) for name in "123"]
    (tmp_path / "no").write_text("no DICOM")
    assert main(["dcmtojson", paths[0], str(tmp_path / "no"), *paths[1:]]) == 2
    found = capfd.readouterr()
    assert [one["00080018"]["Value"] for one in json.loads(found.out)] == [
        ["1.1"],
        ["1.2"],
        ["1.3"],
    ]
    assert found.err.splitlines() == [
        f"isocenter dcmtojson: {tmp_path / 'no'}: not DICOM: neither a Part 10 file nor a data set"
    ]
    assert main(["dcmtojson", *[str(tmp_path / "no")] * 3]) == 2
    assert json.loads(capfd.readouterr().out) == []


def test_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    feed(monkeypatch, make(tmp_path / "ct").read_bytes())
    assert main(["dcmtojson", "-", "-c"]) == 0
    assert json.loads(capfd.readouterr().out)["00080060"]["Value"] == ["CT"]
    feed(monkeypatch, (tmp_path / "ct").read_bytes())
    assert main(["dcmtojson", "-", "--bulk-data", "uri"]) == 1


def test_bulk_data_by_uri_and_in_a_folder(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = make(tmp_path / "ct")
    assert main(["dcmtojson", str(path), "--bulk-data", "uri"]) == 0
    uri = json.loads(capfd.readouterr().out)["7FE00010"]["BulkDataURI"]
    size = path.stat().st_size
    assert uri == f"file://{path}?offset={size - 4}&length=4"
    big = make(tmp_path / "big", EXPLICIT_BIG, pixels=b"\0\1\0\2")
    assert main(["dcmtojson", str(big), "--bulk-data", "uri"]) == 2
    assert "--bulk-data-dir" in capfd.readouterr().err
    folder = tmp_path / "bulk"
    arguments = ["dcmtojson", str(big), "--bulk-data-dir", str(folder), "--bulk-data-uri", "/b"]
    assert main(arguments) == 0
    uri = json.loads(capfd.readouterr().out)["7FE00010"]["BulkDataURI"]
    assert uri == f"/b{folder}/big.7FE00010.bin"
    assert (folder / "big.7FE00010.bin").read_bytes() == b"\1\0\2\0"


def test_a_truncated_file_is_written_as_far_as_it_goes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = make(tmp_path / "ct")
    whole = path.read_bytes()
    for cut in (1, 3, 10, 30, 60):
        path.write_bytes(whole[:-cut])
        assert main(["dcmtojson", str(path), "--bulk-data", "inline"]) == 0
        found = capfd.readouterr()
        assert json.loads(found.out)["00080060"]["Value"] == ["CT"]
        assert "forgiven" in found.err
        assert main(["dcmtojson", str(path), "--strict"]) == 2
        found = capfd.readouterr()
        assert not found.out
        assert len(found.err.splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"x", bytes(200), b"DICM" * 50, bytes(128) + b"DICM"])
def test_what_is_no_dicom_leaves_no_output(
    tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x").write_bytes(content)
    assert main(["dcmtojson", str(tmp_path / "x"), str(tmp_path / "out.json")]) == 2
    assert os.listdir(tmp_path) == ["x"]
    assert len(capfd.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["x", "--bogus"],
        ["x", "-t", "nokeyword"],
        ["x", "--bulk-data", "maybe"],
        ["x", "-p", "-c"],
    ],
)
def test_arguments_that_cannot_be(words: list[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["dcmtojson", *words])
    assert raised.value.code == 1


def test_a_large_file_is_written_in_little_memory(tmp_path: Path) -> None:
    """192 MiB of pixels inline, with less than that of memory for everything."""
    path = tmp_path / "large"
    size = 192 << 20
    with path.open("wb") as file:
        file.write(write_file_meta(CT, "1.2.3", SYNTAXES[EXPLICIT_LITTLE]))
        file.write(write_data_set(elements()[:-1], EXPLICIT_LITTLE))
        file.write(b"\xe0\x7f\x10\0OW\0\0" + size.to_bytes(4, "little"))
        file.truncate(file.tell() + size)
    code = "import sys; from isocenter.services.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "dcmtojson", str(path), str(tmp_path / "out.json"),
         "--bulk-data", "inline"],
        check=False, timeout=120, preexec_fn=_with_little_memory,
    )  # fmt: skip
    assert done.returncode == 0
    assert (tmp_path / "out.json").stat().st_size > size


def _with_little_memory() -> None:
    # Data only: a mapped file is none of it.
    resource.setrlimit(resource.RLIMIT_DATA, (150 << 20, 150 << 20))


# -- jsontodcm ---------------------------------------------------------------------------


def to_json(path: Path, place: Path, *words: str) -> Path:
    assert main(["dcmtojson", str(path), "-o", str(place), *words]) == 0
    return place


@pytest.mark.parametrize("wanted", ["explicit", "implicit", "big-endian", "deflated"])
def test_there_and_back(tmp_path: Path, wanted: str) -> None:
    text = to_json(make(tmp_path / "ct"), tmp_path / "ct.json", "--bulk-data", "inline")
    place = tmp_path / "new.dcm"
    assert main(["jsontodcm", str(text), str(place), "-t", wanted]) == 0
    found = pydicom.dcmread(place)
    assert str(found.PatientName) == "Müller^Ä"
    assert found.SpecificCharacterSet == "ISO_IR 100"
    assert found[0x00400275][0][0x00400007].value == "Schädel"
    assert found.file_meta.SourceApplicationEntityTitle == "THEM"
    again = to_json(place, tmp_path / "again.json", "--bulk-data", "inline", "--no-meta")
    first, second = (json.loads(one.read_bytes()) for one in (text, again))
    assert {key: one for key, one in first.items() if key > "0003"} == second


def test_from_the_original_or_its_bulk_data(tmp_path: Path) -> None:
    path = make_compressed(tmp_path / "ct.dcm")
    new = tmp_path / "new.dcm"
    text = str(to_json(path, tmp_path / "1.json"))
    assert main(["jsontodcm", text, str(new), "--template", str(path)]) == 0
    data_set = path.read_bytes()[-300:]
    assert new.read_bytes().endswith(data_set[data_set.index(b"\x08\0\x05\0") :])
    for words in (["--bulk-data-dir", str(tmp_path / "bulk")], ["--bulk-data", "uri"]):
        text = str(to_json(path, tmp_path / "2.json", *words))
        folder = str(tmp_path / "bulk") if len(words[1]) > 3 else str(tmp_path)
        other = tmp_path / "other.dcm"
        assert main(["jsontodcm", text, str(other), "--bulk-data-dir", folder]) == 0
        assert other.read_bytes() == new.read_bytes()


def test_changes_over_a_template_in_another_encoding(tmp_path: Path) -> None:
    for encoding in (IMPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED_LITTLE):
        pixels = b"\0\1\0\2" if encoding.big_endian else b"\1\0\2\0"
        path = make(tmp_path / "ct.dcm", encoding, pixels=pixels)
        change = tmp_path / "change.json"
        change.write_text('{"00100020":{"vr":"LO","Value":["P1"]},"00080060":{"vr":"CS"}}')
        new = tmp_path / "new.dcm"
        assert main(["jsontodcm", str(change), str(new), "--template", str(path)]) == 0
        found = pydicom.dcmread(new)
        assert found.file_meta.TransferSyntaxUID == SYNTAXES[encoding]
        assert found.PatientID == "P1"
        assert not found.Modality
        assert str(found.PatientName) == "Müller^Ä"
        assert found.PixelData == pixels


def test_texts_of_a_template_in_another_character_set(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = make(tmp_path / "ct.dcm")
    change = tmp_path / "change.json"
    change.write_text('{"00104000":{"vr":"LT","Value":["山"]}}')
    arguments = ["jsontodcm", str(change), str(tmp_path / "new.dcm"), "--template", str(path)]
    assert main(arguments) == 2
    assert "character set" in capfd.readouterr().err
    change.write_text('{"00104000":{"vr":"LT","Value":["ü"]}}')
    assert main(arguments) == 0
    assert pydicom.dcmread(tmp_path / "new.dcm").PatientComments == "ü"


def test_text_that_needs_another_character_set_gets_utf_8(tmp_path: Path) -> None:
    text = tmp_path / "x.json"
    model = {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 100"]},
        "00080016": {"vr": "UI", "Value": [CT]}, "00080018": {"vr": "UI", "Value": ["1.2"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Yamada", "Ideographic": "山田"}]},
    }  # fmt: skip
    text.write_text(json.dumps(model))
    assert main(["jsontodcm", str(text), str(tmp_path / "x.dcm")]) == 0
    found = pydicom.dcmread(tmp_path / "x.dcm")
    assert found.SpecificCharacterSet == "ISO_IR 192"
    assert found.PatientName.ideographic == "山田"


def test_an_array_becomes_files_in_a_folder(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = [str(make(tmp_path / name, uid=f"1.2.{name}")) for name in "12"]
    assert main(["dcmtojson", *paths, "-o", "-"]) == 0
    text = tmp_path / "both.json"
    text.write_text(capfd.readouterr().out)
    assert main(["jsontodcm", str(text), "-o", str(tmp_path / "no folder")]) == 2
    (tmp_path / "out").mkdir()
    assert main(["jsontodcm", str(text), "-o", str(tmp_path / "out")]) == 0
    assert sorted(os.listdir(tmp_path / "out")) == ["1.2.1.dcm", "1.2.2.dcm"]


def test_nothing_outside_of_the_folder_is_read(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    folder = tmp_path / "bulk"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "secret")
    for uri in (
        f"file://{tmp_path}/secret", f"file://{folder}/../secret", "../secret", "secret",
        "http://127.0.0.1:1/secret", "link", f"file://{folder}/link", "\\0", "file://[", "",
        "link?offset=x",
    ):  # fmt: skip
        model = {
            "00080016": {"vr": "UI", "Value": [CT]}, "00080018": {"vr": "UI", "Value": ["1.2"]},
            "7FE00010": {"vr": "OW", "BulkDataURI": uri},
        }  # fmt: skip
        (tmp_path / "x.json").write_text(json.dumps(model))
        arguments = ["jsontodcm", str(tmp_path / "x.json"), str(tmp_path / "x.dcm")]
        assert main([*arguments, "--bulk-data-dir", str(folder)]) == 2, uri
        assert main(arguments) == 2
        assert not (tmp_path / "x.dcm").exists()
        assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no JSON"), ("{}", "(0008,0016)"), ("[]", "no data set"), ("5", "no data set"),
        ('{"00080016":{"vr":"UI","Value":["1.2"]},"00080018":{"vr":"UI","Value":["x"]}}',
         "(0008,0018)"),
        ('{"00280010":{"vr":"US","Value":[-1]}}', "(0028,0010)"),
        ("[" * 10_000, "too deep"),
    ],
)  # fmt: skip
def test_what_makes_no_file(
    tmp_path: Path, text: str, what: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.json").write_text(text)
    assert main(["jsontodcm", str(tmp_path / "x.json"), str(tmp_path / "x.dcm")]) == 2
    assert os.listdir(tmp_path) == ["x.json"]
    (line,) = capfd.readouterr().err.splitlines()
    assert what in line


def test_an_output_is_needed() -> None:
    assert main(["jsontodcm", "x.json"]) == 1


# -- Beside programs of others -----------------------------------------------------------


@pytest.mark.skipif(shutil.which("dcm2json") is None, reason="needs DCMTK")
@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small.dcm", "rtplan.dcm", "reportsi.dcm", "test-SR.dcm"]
)
def test_beside_dcm2json(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if not (DATA / name).exists():
        pytest.skip(f"pydicom does not bring {name}")
    theirs_text = subprocess.run(
        ["dcm2json", str(DATA / name)], check=False, capture_output=True, timeout=60
    ).stdout
    if not theirs_text:
        pytest.skip("dcm2json cannot write it")
    theirs = json.loads(theirs_text)
    path = str(DATA / name)
    assert main(["dcmtojson", path, "--no-meta", "--bulk-data", "inline"]) == 0
    ours = json.loads(capfd.readouterr().out)
    for key, attribute in theirs.items():
        # DCMTK says that the text is in UTF-8; we, as PS3.18 F.2.2 has it, what the object is in.
        if key in ("7FE00010", "FFFCFFFC", "00080005") or "InlineBinary" in attribute:
            continue
        assert attribute["vr"] in (ours[key]["vr"], "UN")
        assert plain(ours[key].get("Value")) == plain(attribute.get("Value")), key


def plain(value: Any) -> Any:
    """With numbers as numbers, whoever wrote them as what."""
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items() if key != "InlineBinary"}
    try:
        return pytest.approx(float(value), rel=1e-6)
    except (TypeError, ValueError):
        return value
