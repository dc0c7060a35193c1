"""Objects whose UIDs break PS3.5 9.1, all the way: in, found, out, promised, looked after."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from isocenter.engine.dataset import read_file_meta, write_file_meta
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.archive.object_keys import name_of_uid
from isocenter.services.cli import main
from services.archive_support import CT, ODD_UIDS, data_set
from services.cli_support import archive_server, write_object

Output = pytest.CaptureFixture[str]
# pydicom reads such UIDs, and says so.
pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR UI:UserWarning")

#: What can be given on a command line where a backslash or a comma means something.
UIDS = [odd for odd in ODD_UIDS if not set(odd) & set(",;=")]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """One object for each UID, which its study and its series have as well."""
    folder = tmp_path / "files"
    folder.mkdir()
    for number, odd in enumerate(UIDS):
        head = write_file_meta(CT, odd, EXPLICIT_VR_LITTLE_ENDIAN)
        content = head + data_set(1, study=odd, series=odd, instance=odd)
        (folder / str(number)).write_bytes(content)
    return folder


def test_they_are_stored_found_and_retrieved(tmp_path: Path, files: Path, capsys: Output) -> None:
    with archive_server() as server:
        assert main(["storescu", server.peer, str(files), "-q"]) == 0
        for number, odd in enumerate(UIDS):
            out = tmp_path / "out" / str(number)
            out.mkdir(parents=True)
            capsys.readouterr()
            keys = ["-k", "0008,0052=IMAGE", "-k", f"0020,000D={odd}", "-k", f"0020,000E={odd}"]
            assert main(["findscu", server.peer, "-S", *keys, "-k", f"0008,0018={odd}"]) == 0
            assert f"SOPInstanceUID: {odd}\n" in capsys.readouterr().out
            get = ["getscu", server.peer, "--study-uid", odd, "-od", str(out), "-q"]
            assert main(get) == 0, capsys.readouterr().err
            (got,) = [path for path in out.rglob("*") if path.is_file()]
            assert got.name == f"{name_of_uid(odd)}.dcm"
            sent = (files / str(number)).read_bytes()
            back = got.read_bytes()
            meta = read_file_meta(back)
            assert meta.media_storage_sop_instance_uid == odd
            assert back[meta.data_set_offset :] == sent[read_file_meta(sent).data_set_offset :]
    # Nothing came out elsewhere.
    assert {path.name for path in tmp_path.iterdir()} == {"files", "out"}


def test_they_are_moved(tmp_path: Path, files: Path, capsys: Output) -> None:
    """To another archive that takes them, which names them in its C-STORE-RSP."""
    with archive_server() as there, archive_server(there.peer) as server:
        assert main(["storescu", server.peer, str(files), "-q"]) == 0
        for odd in UIDS:
            move = ["movescu", server.peer, "-aem", "ISOCENTER", "-S", "-k", "0008,0052=STUDY"]
            assert main([*move, "-k", f"0020,000D={odd}"]) == 0, capsys.readouterr().err
        capsys.readouterr()
        find = ["findscu", there.peer, "-S", "-k", "0008,0052=STUDY", "-k", "0020,000D"]
        assert main(find) == 0
        found = capsys.readouterr().out
        assert all(f"StudyInstanceUID: {odd}\n" in found for odd in UIDS)


def test_their_commitment_is_asked_for(tmp_path: Path, files: Path, capsys: Output) -> None:
    with archive_server(data_dir=str(tmp_path / "data")) as server:
        assert main(["storescu", server.peer, str(files), "-q"]) == 0
        capsys.readouterr()
        assert main(["commitscu", server.peer, str(files)]) == 0, capsys.readouterr().err


def test_the_archive_looks_after_them(tmp_path: Path, files: Path, capsys: Output) -> None:
    for naming in ("uid", "date", "flat"):
        data = tmp_path / naming
        config = tmp_path / f"{naming}.toml"
        config.write_text(f'[storage]\nnaming = "{naming}"\n')
        where = ["--data-dir", str(data), "--config", str(config)]
        assert main(["import", *where, str(files)]) == 0, capsys.readouterr().err
        assert main(["db", "verify", *where]) == 0, capsys.readouterr().err
        (data / "index.db").unlink()
        assert main(["db", "reindex", *where]) == 0, capsys.readouterr().err
        assert main(["db", "verify", *where]) == 0
        capsys.readouterr()
        assert main(["db", "stats", *where]) == 0
        assert f"instances{len(UIDS)}\n" in capsys.readouterr().out.replace(" ", "")
        # Below its folder, and under names that no file system confuses.
        stored = [path for path in (data / "objects").rglob("*.dcm") if path.is_file()]
        assert len(stored) == len({str(path).casefold() for path in stored}) == len(UIDS)
        for path in stored:
            assert pydicom.dcmread(path).SOPInstanceUID in UIDS


def test_strict_refuses_them_and_keeps_what_is_there(
    tmp_path: Path, files: Path, capsys: Output
) -> None:
    """The setting is for what comes; what came before is served on."""
    data = tmp_path / "data"
    assert main(["import", "--data-dir", str(data), str(files / "4")]) == 0
    config = tmp_path / "strict.toml"
    config.write_text('[storage]\nuids = "strict"\n')
    where = ["--data-dir", str(data), "--config", str(config)]
    good = write_object(tmp_path, 7)
    assert main(["import", *where, str(files / "5"), str(good)]) == 1
    captured = capsys.readouterr()
    assert "Affected SOP Instance UID is not a UID" in captured.err
    assert "1 imported" in captured.out
    assert main(["db", "reindex", *where]) == 0
    assert main(["db", "verify", *where]) == 0
    capsys.readouterr()
    assert main(["db", "stats", *where]) == 0
    assert "instances2\n" in capsys.readouterr().out.replace(" ", "")


def test_they_are_deleted_and_restored(tmp_path: Path, files: Path, capsys: Output) -> None:
    where = ["--data-dir", str(tmp_path / "data")]
    assert main(["import", *where, str(files)]) == 0
    for odd in UIDS:
        delete = ["delete", *where, f"--study={odd}", "--yes", "--reason", "a test"]
        assert main(delete) == 0, capsys.readouterr().err
        assert main(["trash", "restore", *where, f"--study={odd}"]) == 0, capsys.readouterr().err
    capsys.readouterr()
    assert main(["db", "verify", *where]) == 0
    assert main(["db", "stats", *where]) == 0
    assert f"instances{len(UIDS)}\n" in capsys.readouterr().out.replace(" ", "")
