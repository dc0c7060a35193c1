"""Files that somebody made to hurt: bounded memory, a clear line, nothing left behind."""

from __future__ import annotations

import os
import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from isocenter.engine.dataset import EXPLICIT_LITTLE, write_data_set, write_file_meta
from isocenter.services.cli import main
from isocenter.services.dicom import data_set_nodes

CT = "1.2.840.10008.5.1.4.1.1.2"
BASE = write_data_set(
    [(0x00080016, "UI", CT.encode()), (0x00080018, "UI", b"1.2.3")], EXPLICIT_LITTLE
)
UNDEFINED = b"\xff\xff\xff\xff"
SEQUENCE = b"\x40\0\x75\x02SQ\0\0"
ITEM = b"\xfe\xff\0\xe0"
END = b"\xfe\xff\xdd\xe0\0\0\0\0"


def file_of(data: bytes, syntax: str = "1.2.840.10008.1.2.1") -> bytes:
    return write_file_meta(CT, "1.2.3", syntax) + data


HOSTILE = {
    "deep": file_of(BASE + (SEQUENCE + UNDEFINED + ITEM + UNDEFINED) * 5000),
    "deep, with lengths": file_of(
        BASE + b"".join(
            SEQUENCE + struct.pack("<I", 2**31 - 40 * n) + ITEM
            + struct.pack("<I", 2**31 - 40 * n - 20) for n in range(2000)
        )
    ),
    "many items": file_of(BASE + SEQUENCE + UNDEFINED + (ITEM + bytes(4)) * 20_000 + END),
    "many fragments": file_of(
        BASE + b"\xe0\x7f\x10\0OB\0\0" + UNDEFINED + (ITEM + b"\2\0\0\0ab") * 20_000 + END,
        "1.2.840.10008.1.2.4.50",
    ),
    "many values": file_of(
        BASE + b"\x10\0\0\x40UC\0\0" + struct.pack("<I", 2_000_000) + b"\\" * 2_000_000
    ),
    "NULs": file_of(BASE + bytes(3_000_000)),
    "character sets": file_of(b"\x08\0\x05\0CS\x60\xea" + b"ISO 2022 IR 87\\" * 4000 + BASE),
    "escapes": file_of(
        BASE + b"\x10\0\x10\0UT\0\0" + struct.pack("<I", 300_000) + b"\x1b$B" * 100_000
    ),
    "lying rows": file_of(
        BASE + write_data_set(
            [(0x00280010, "US", b"\xff\xff"), (0x00280011, "US", b"\xff\xff"),
             (0x00280100, "US", b"\x10\0"), (0x7FE00010, "OW", b"ab")], EXPLICIT_LITTLE,
        )
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_every_tool_answers(
    kind: str, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    path = tmp_path / "hostile.dcm"
    path.write_bytes(HOSTILE[kind])
    for words in (
        ["dcmdump", str(path)],
        ["dcminfo", "-v", str(path)],
        ["dcmmodify", "-m", "SOPInstanceUID=1.2.4", "-o", str(tmp_path / "m"), str(path)],
        ["dcmconv", "--implicit", "--to-utf8", str(path), str(tmp_path / "c")],
        ["dcmconv", "--jpeg-ls", str(path), str(tmp_path / "j")],
    ):
        assert main(words) in (0, 2), words
        errors = capfdbinary.readouterr().err
        assert b"Traceback" not in errors
        assert len(errors.splitlines()) <= 6
    assert set(os.listdir(tmp_path)) <= {"hostile.dcm", "m", "c", "j"}


def test_more_elements_than_are_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(data_set_nodes, "MAX_NODES", 1000)
    path = tmp_path / "many.dcm"
    path.write_bytes(HOSTILE["many items"])
    for words in (
        ["dcmmodify", "-nb", "-e", "SOPInstanceUID"],
        ["dcmconv", "-o", str(tmp_path / "c")],
    ):
        assert main([*words, str(path)]) == 2
        assert "more than 1000 elements" in capfd.readouterr().err
    assert os.listdir(tmp_path) == ["many.dcm"]
    assert main(["dcmdump", "-q", str(path)]) == 0  # shows them one by one


def _little_memory() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (150 << 20, 150 << 20))


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["dcmdump", "dcminfo", "dcmmodify"])
def test_a_bomb_stays_outside_of_memory(tool: str, tmp_path: Path) -> None:
    """Some hundred KB that inflate to 300 MB."""
    deflater = zlib.compressobj(9, wbits=-15)
    length = 300_000_000
    bomb = deflater.compress(BASE + b"\x10\0\0\x40UT\0\0" + struct.pack("<I", length))
    bomb += b"".join(deflater.compress(b"a" * 1_000_000) for _ in range(300)) + deflater.flush()
    path = tmp_path / "bomb.dcm"
    path.write_bytes(file_of(bomb, "1.2.840.10008.1.2.1.99"))
    words = ["-i", "PatientID=1", "-nb"] if tool == "dcmmodify" else []
    done = subprocess.run(
        [sys.executable, "-m", "isocenter.services.cli", tool, *words, path],
        capture_output=True, timeout=120, preexec_fn=_little_memory, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
