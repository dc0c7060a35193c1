"""The worklist beside DCMTK's: text dumps beside dump2dcm, our SCU against wlmscpfs, its files
in our folder."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

import orjson
import pytest

from isocenter.engine.dataset import Element, Fragments, read_file_meta
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.dicom.text_dump import DumpSyntaxError, read_dump
from isocenter.services.service_classes.worklist.entry_files import read_entries
from services.service_classes.worklist.samples import entry
from support.peers import PeerArchive, orthanc
from support.ports import free_port
from support.processes import (
    isocenter_command,
    program,
    run,
    served_archive,
    wait_for_line,
    wait_for_port,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.interop("dump2dcm", "dcmdump", "wlmscpfs", "findscu"),
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]

EXAMPLES = Path("/usr/share/doc/dcmtk/examples")
STEP = "(0040,0100)[0]."

DUMP = """\
# an order
(0008,0005) CS  [ISO_IR 100]
(0008,0050) SH  A{number}
(0010,0010) PN  {name}
(0010,0020) LO  [PAT{number}]            # with a comment
(0010,0030) DA  19800229
(0010,0040) CS  F
(0020,000d) UI  1.2.276.0.7230010.3.2.{number}
(0032,1060) LO  CT CHEST
(0040,1001) SH  RP{number}
(0040,1003) SH  [LOW]
(0040,0100) SQ
  (fffe,e000) -
    (0040,0007) LO [CT # CHEST [1]]
    (0008,0060) CS  {modality}
    (0040,0001) AE  CT_01\\CT_02
    (0040,0002) DA  20261124
    (0040,0003) TM  093000
    (0040,0009) SH  SPS{number}
    (0040,0008) SQ (Sequence with explicit length #=1)      # 1, 1
      (fffe,e000) na (Item with explicit length #=3)
        (0008,0100) SH [CHEST1]
        (0008,0102) SH 99LOCAL
        (0008,0104) LO [Chest \u00e4 la mode]
      (fffe,e00d) na (ItemDelimitationItem for re-encoding)
    (fffe,e0dd) na (SequenceDelimitationItem for re-encod.)
    (0040,0012) LO (no value available)                     # 0, 0
  (fffe,e00d) -
(fffe,e0dd) -
"""


def dump(number: int = 1, name: str = "D\u00d6E^JANE", modality: str = "CT") -> bytes:
    return DUMP.format(number=number, name=name, modality=modality).encode("latin-1")


#: What both understand, and in the same way.
UNDERSTOOD = {
    "whole": dump(),
    "order of lines": b"(0040,1001) SH b\n(0010,0010) PN a\n(0008,0050) SH c\n",
    "twice": b"(0010,0020) LO x\n(0010,0020) LO y\n",
    "twice in an item": b"(0040,0100) SQ\n(fffe,e000) -\n(0040,0001) AE X\n(0040,0001) AE Y\n"
    b"(fffe,e00d) -\n(fffe,e0dd) -\n(0040,0100) SQ\n(fffe,e0dd) -\n",
    "no VR": b"(0010,0020) [LOW]\n(0020,000d) 1.2.3\n(0028,0010) 12\n",
    "spaces": b"  ( 0010 , 0020 )\tLO  a b \t# c\n\n   # nothing\n",
    "brackets": b"(0010,0020) LO [a]b] # ]\n(0010,0021) LO a[b]\n(0010,0010) PN[x]\n",
    "comments": b"(0010,0020) LO a#b\n(0010,0021) LO [a#b]\n(0010,0010) PN # none\n",
    "several": b"(0010,1000) LO a\\b\n(0010,0010) PN [a]\\[b]\n",
    "padding": b"(0010,4000) LT [  a  ]\n(0010,0020) LO [ a ]\n",
    "numbers": b"(0028,0010) US 256\\12\n(0009,0010) LO [AB]\n(0009,1003) FD -1.5\n"
    b"(0009,1004) SL -7\n(0009,1005) FL 0.5\n",
    "binary": b"(0009,0010) LO [AB]\n(0009,1001) OB 01\\2\\ff\n(0009,1002) UN 01\\02\n"
    b"(0009,1003) OW 0102\\ff\n(0028,0009) AT (3004,000c)\\(0010,0010)\n",
    "description": b"(0010,0020) LO (no value available)\n(0010,0030) DA\n",
    "meta": b"(0002,0010) UI =LittleEndianImplicit\n(0010,0000) UL 8\n(0010,0020) LO x\n"
    b"(fffc,fffc) OB 00\\00\n",
    "uids": b"(0008,0016) UI =CTImageStorage\n",
    "windows": b"(0010,0020) LO x\r\n(0010,0010) PN [y]\r\n",
}

#: What neither takes.
REFUSED = {
    "no tag": b"(0010,0020) LO x\ngarbage\n",
    "before the tag": b"xx (0010,0020) LO x\n",
    "no bracket": b"(0010,0020) LO [x\n",
    "angle": b"(0010,0020) LO <x>\n",
    "number": b"(0028,0010) US x\n",
    "no end": b"(0040,0100) SQ\n(fffe,e000) -\n(0040,0001) AE X\n(fffe,e00d) -\n",
    "no item": b"(0040,0100) SQ\n(0040,0001) AE X\n(fffe,e0dd) -\n",
    "item alone": b"(fffe,e000) -\n(fffe,e00d) -\n",
    "end alone": b"(fffe,e0dd) -\n",
    "sequence with value": b"(0040,0100) SQ [abc]\n(fffe,e000) -\n(fffe,e00d) -\n(fffe,e0dd) -\n",
    "uid name": b"(0008,0016) UI =NoSuchName\n",
    "private without VR": b"(0009,1005) hello\n",
}


def by_dump2dcm(content: bytes, folder: Path) -> AttributeList | None:
    """What DCMTK makes of a dump; None: it refuses."""
    text, made = folder / "a.dump", folder / "a.dcm"
    text.write_bytes(content)
    made.unlink(missing_ok=True)
    run("dump2dcm", "-g", text, made)
    return of_file(made) if made.exists() else None


def of_file(path: Path) -> AttributeList:
    content = path.read_bytes()
    meta = read_file_meta(content)
    return AttributeList.read(content[meta.data_set_offset :], meta.transfer_syntax_uid)


def comparable(item: Mapping[int, Element]) -> dict[int, object]:
    """Tag → VR and value without padding, which DCMTK makes afresh."""
    found: dict[int, object] = {}
    for tag, element in item.items():
        value = element.value
        assert not isinstance(value, Fragments)
        if isinstance(value, bytes):
            found[tag] = element.vr, value.rstrip(b" \0")
        else:
            found[tag] = [comparable(each) for each in value]
    return found


def examples() -> list[Path]:
    return sorted(EXAMPLES.glob("wlist*/**/*.dump"))


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_a_dump_means_what_it_means_to_dump2dcm(name: str, tmp_path: Path) -> None:
    theirs = by_dump2dcm(UNDERSTOOD[name], tmp_path)
    assert theirs is not None
    ours = read_dump(UNDERSTOOD[name], name)
    assert comparable(ours.elements) == comparable(theirs.elements)


@pytest.mark.parametrize("name", REFUSED)
def test_what_dump2dcm_refuses_is_a_fault(name: str, tmp_path: Path) -> None:
    assert by_dump2dcm(REFUSED[name], tmp_path) is None
    with pytest.raises(DumpSyntaxError):
        read_dump(REFUSED[name], name)


@pytest.mark.skipif(not examples(), reason="DCMTK's documentation is not installed")
def test_the_examples_of_dcmtk(tmp_path: Path) -> None:
    for path in examples():
        content = path.read_bytes()
        theirs = by_dump2dcm(content, tmp_path)
        assert theirs is not None
        assert comparable(read_dump(content, path.name).elements) == comparable(theirs.elements)
        if path.parent.name == "OFFIS":
            assert (
                read_entries(path, "a")[0][0].key == read_entries(tmp_path / "a.dcm", "a")[0][0].key
            )


@pytest.mark.parametrize(
    ("name", "charset"),
    [
        ("M\u00fcller^J\u00f6rg", "ISO_IR 192"),
        ("\u042e\u0440\u0438\u0439", "ISO_IR 144"),
        ("Yamada^Tarou=\u5c71\u7530^\u592a\u90ce", "\\ISO 2022 IR 87"),
        ("Hong^Gildong=\u6d2a^\u5409\u6d1e=\ud64d^\uae38\ub3d9", "\\ISO 2022 IR 149"),
    ],
)
def test_what_dcmdump_prints_is_read_again(name: str, charset: str, tmp_path: Path) -> None:
    path = tmp_path / "entry.dcm"
    given = entry(1, patient_name=name, attributes={"SpecificCharacterSet": charset})
    path.write_bytes(given.attributes.encode(EXPLICIT_VR_LITTLE_ENDIAN))
    printed = tmp_path / "entry.dump"
    done = run("sh", "-c", f"dcmdump +L -f -t= '{path}' > '{printed}'")
    assert done.returncode == 0, done.stdout
    (again, _), *more = read_entries(printed, "entry.dump")
    assert not more
    assert again.text(0x00100010) == name
    assert comparable(again.attributes.elements) == comparable(given.attributes.elements)


# -- Our SCU and wlmscpfs ----------------------------------------------------------------


@pytest.fixture(scope="module")
def wlmscpfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeerArchive]:
    """DCMTK's worklist server, AE title RIS, with three entries."""
    folder = tmp_path_factory.mktemp("wlmscpfs")
    entries = folder / "db" / "RIS"
    entries.mkdir(parents=True)
    (entries / "lockfile").touch()
    write_entries(entries)
    port, log = free_port(), folder / "wlmscpfs.log"
    with program("wlmscpfs", "-v", "-dfp", folder / "db", port, log=log) as process:
        wait_for_port(process, port, log)
        yield PeerArchive("RIS", port, entries, log)


PATIENTS = ((1, "D\u00d6E^JANE", "CT"), (2, "ROE^RUTH", "MR"), (3, "DOE^JIM", "CT"))


def write_entries(folder: Path) -> None:
    for number, name, modality in PATIENTS:
        text = folder / f"{number}.dump"
        text.write_bytes(dump(number, name, modality))
        done = run("dump2dcm", "-g", text, folder / f"{number}.wl")
        assert (folder / f"{number}.wl").exists(), done.stdout
        text.unlink()


def ask(peer: PeerArchive, *options: object) -> list[dict[str, str]]:
    """What worklistscu says, as its JSON."""
    address = f"{peer.ae_title}@127.0.0.1:{peer.port}"
    done = isocenter_command("worklistscu", address, "-q", "-o", "json", *options)
    found: list[dict[str, str]] = orjson.loads(done.stdout)
    assert done.returncode == (0 if found else 1), done.stdout
    return found


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ((), ["SPS1", "SPS2", "SPS3"]),
        (("--modality", "CT"), ["SPS1", "SPS3"]),
        (("--date", "20261124"), ["SPS1", "SPS2", "SPS3"]),
        (("--date", "20261125-"), []),
        (("--date", "-20261124", "--station", "CT_02", "--modality", "MR"), ["SPS2"]),
        (("--station", "MR_01"), []),
        (("--patient-id", "PAT2"), ["SPS2"]),
        (("--accession", "A3"), ["SPS3"]),
        (("--patient-name", "D\u00d6E*", "--charset", "ISO_IR 100"), ["SPS1"]),
        (("-k", f"{STEP}(0040,0003)=093000", "-k", "0040,1001=RP1"), ["SPS1"]),
        (("--today",), []),
    ],
)
def test_our_questions_to_wlmscpfs(
    wlmscpfs: PeerArchive, options: tuple[str, ...], steps: list[str]
) -> None:
    assert sorted(item["step_id"] for item in ask(wlmscpfs, *options)) == steps


def test_an_item_has_all_fields(wlmscpfs: PeerArchive) -> None:
    (item,) = ask(wlmscpfs, "--accession", "A1")
    expected = {
        "step_id": "SPS1",
        "station_ae": "CT_01\\CT_02",
        "modality": "CT",
        "procedure_desc": "CT # CHEST [1]",
        "protocol_code": "CHEST1^99LOCAL^Chest \u00e4 la mode",
        "accession_no": "A1",
        "patient_name": "D\u00d6E^JANE",
        "patient_id": "PAT1",
        "birth_date": "19800229",
        "sex": "F",
        "study_uid": "1.2.276.0.7230010.3.2.1",
        "requested_proc_id": "RP1",
        "priority": "LOW",
        "scheduled_datetime": "20261124093000",
    }
    assert item.items() >= expected.items()
    assert item["pregnancy_status"] == "4"  # what wlmscpfs says of all: unknown


def test_the_forms_of_an_answer(wlmscpfs: PeerArchive, tmp_path: Path) -> None:
    command = ("worklistscu", f"RIS@127.0.0.1:{wlmscpfs.port}", "-q")
    (row,) = csv.DictReader(
        io.StringIO(isocenter_command(*command, "--accession", "A2", "-o", "csv").stdout)
    )
    assert (row["patient_name"], row["scheduled_datetime"]) == ("ROE^RUTH", "20261124093000")
    table = isocenter_command(*command, "--accession", "A2").stdout
    assert "2026-11-24 09:30" in table
    assert "ROE^RUTH" in table
    path = tmp_path / "entry.json"
    done = isocenter_command(*command, "--accession", "A1", "-o", "dicom", "--output-file", path)
    assert done.returncode == 0, done.stdout
    assert read_entries(path, "entry.json")[0][0].text(0x00100010) == "D\u00d6E^JANE"
    # What was asked can be imported.
    path.write_bytes(orjson.dumps(ask(wlmscpfs)))
    assert len(read_entries(path, "items.json")) == 3


def test_findscu_w_asks_what_dcmtks_does(wlmscpfs: PeerArchive) -> None:
    keys = [
        word
        for key in ("0010,0010=*J*", "0010,0020", f"{STEP}0008,0060=CT", f"{STEP}0040,0009")
        for word in ("-k", key)
    ]
    address = ("-aec", "RIS", "127.0.0.1", wlmscpfs.port)
    theirs = run("findscu", "-W", *keys, *address).stdout
    ours = isocenter_command("findscu", "-W", *keys, *address, "-o", "json")
    assert ours.returncode == 0, ours.stdout
    found = orjson.loads(ours.stdout)
    assert len(found) == 2
    assert theirs.count("(Pending)") == 2
    for match in found:
        # Two attributes outside, two inside, and the character set: nothing that nobody asked for.
        assert set(match) <= {"00080005", "00100010", "00100020", "00400100"}
        step = match["00400100"]["Value"][0]
        assert set(step) == {"00080060", "00400009"}
        assert f"[{step['00400009']['Value'][0]}]" in theirs


def test_findscu_w_by_options_and_without_keys(wlmscpfs: PeerArchive) -> None:
    command = ("findscu", "-W", f"RIS@127.0.0.1:{wlmscpfs.port}", "-o", "json")
    found = orjson.loads(isocenter_command(*command, "--modality", "MR").stdout)
    assert [match["00100020"]["Value"] for match in found] == [["PAT2"]]
    done = isocenter_command(*command, "--patient-id", "NOBODY")
    assert done.returncode == 1
    done = isocenter_command(*command, "-L", "STUDY")
    assert done.returncode == 2
    assert "no levels" in done.stdout


def test_what_cannot_be_asked_is_said(wlmscpfs: PeerArchive) -> None:
    peer = f"RIS@127.0.0.1:{wlmscpfs.port}"
    for options, said in (
        (("--date", "tomorrow"), "is no day YYYYMMDD"),
        (("--date", "20261124", "--today"), "not allowed with"),
        (("-k", "NoSuchKeyword=1"), "no keyword"),
        (("-k", "0028,0010=x"), "none of VR US"),
        (("something",), "Behind the peer"),
    ):
        done = isocenter_command("worklistscu", peer, *options)
        assert done.returncode == 2, done.stdout
        assert said in done.stdout
    done = isocenter_command("worklistscu", f"NOBODY@127.0.0.1:{wlmscpfs.port}")
    assert done.returncode == 2, done.stdout


ORTHANC_PLUGIN = Path("/usr/share/orthanc/plugins/libModalityWorklists.so")


@pytest.mark.interop("Orthanc", "dump2dcm")
@pytest.mark.skipif(not ORTHANC_PLUGIN.exists(), reason="Orthanc's worklist plugin is missing")
def test_our_questions_to_orthanc(tmp_path: Path) -> None:
    folder = tmp_path / "worklists"
    folder.mkdir()
    write_entries(folder)
    plugin = {
        "Plugins": [str(ORTHANC_PLUGIN)],
        "Worklists": {"Enable": True, "Database": str(folder)},
    }
    port = free_port()
    us = {"us": {"AET": "WORKLISTSCU", "Host": "127.0.0.1", "Port": free_port()}}
    with orthanc(tmp_path / "orthanc", modalities=us, dicom_port=port, more=plugin) as served:
        peer = PeerArchive("ORTHANC", port, folder, served.log)
        assert sorted(item["step_id"] for item in ask(peer)) == ["SPS1", "SPS2", "SPS3"]
        (item,) = ask(peer, "--modality", "MR", "--date", "20261101-20261130")
        assert item["protocol_code"].startswith("CHEST1^99LOCAL^Chest")
        assert ask(peer, "--station", "NOBODY") == []


# -- Files of wlmscpfs in our folder -----------------------------------------------------


def test_the_folder_of_wlmscpfs_is_our_worklist(tmp_path: Path) -> None:
    folder = tmp_path / "watched"
    (folder / "RIS").mkdir(parents=True)
    (folder / "RIS" / "lockfile").touch()
    config = tmp_path / "isocenter.toml"
    config.write_text(f'[worklist]\nfolder = "{folder}"\nfolder_seconds = 0.05\n')
    with served_archive(tmp_path / "archive", "--config", config, "--workers", 2) as served:
        write_entries(folder / "RIS")
        (folder / "late.dump").write_bytes(dump(4, "LATE^LEA", "US"))
        for name in ("RIS/1.wl", "RIS/2.wl", "RIS/3.wl", "late.dump"):
            wait_for_line(served.process, rf"{name} in the worklist folder: 1 added", served.log)
        address = ("-aec", "ISOCENTER", "127.0.0.1", served.port)
        asked = run("findscu", "-W", "-k", "0010,0010", "-k", f"{STEP}0008,0060=CT", *address)
        assert asked.stdout.count("(Pending)") == 2
        found = ask(PeerArchive("ISOCENTER", served.port, folder, served.log))
        assert [item["step_id"] for item in found] == ["SPS1", "SPS2", "SPS3", "SPS4"]
        (folder / "late.dump").write_bytes(dump(5).replace(b"20261124", b"tomorrow"))
        wait_for_line(served.process, r"late.dump: \(0040,0100\)>\(0040,0002\)", served.log)
        (folder / "RIS" / "1.wl").unlink()
        wait_for_line(served.process, r"RIS/1.wl has gone", served.log)
        asked = run("findscu", "-W", "-k", "0010,0010", "-k", f"{STEP}0040,0009", *address)
        assert asked.stdout.count("(Pending)") == 3
        log = served.log.read_text()
    assert "LATE" not in log
    assert "PAT" not in log
