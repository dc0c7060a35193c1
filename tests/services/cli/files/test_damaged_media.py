"""Files that somebody changed, through the tools of media: a result or a line, nothing else."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import imagecodecs as codecs
import numpy as np
import pydicom
import pytest

from isocenter.services.cli import main

DATA = Path(pydicom.__file__).parent / "data" / "test_files"
Output = pytest.CaptureFixture[str]

GRADIENT = np.add.outer(np.arange(40), np.arange(51)).astype(np.uint8)
PICTURES = (
    codecs.png_encode(GRADIENT),
    codecs.jpeg8_encode(GRADIENT),
    codecs.jpeg2k_encode(GRADIENT, codecformat="jp2"),
    codecs.jpegls_encode(GRADIENT),
    codecs.gif_encode(GRADIENT),
    codecs.bmp_encode(GRADIENT),
    b"%PDF-1.7 %%EOF",
    b'<a xmlns="urn:hl7-org:v3"/>',
)
DIRECTORIES = ("DICOMDIR", "DICOMDIR-bigEnd", "DICOMDIR-implicit")
OBJECTS = ("waveform_ecg.dcm", "CT_small.dcm", "SC_rgb_rle_16bit_2frame.dcm", "image_dfl.dcm")


def changed(content: bytes, source: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(source.randint(1, 6)):
        if not data:
            break
        at = source.randrange(len(data))
        match source.randrange(5):
            case 0:
                data[at] = source.randrange(256)
            case 1:
                del data[at + 1 :]
            case 2:
                del data[at : at + source.randint(1, 40)]
            case 3:
                data[at:at] = source.randbytes(source.randint(1, 20))
            case _:
                data[at : at + 4] = source.choice((b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"))
    return bytes(data)


Run = Callable[..., int]


@pytest.fixture
def run(capfd: Output) -> Run:
    """Runs a command; its exit code.  What it says is judged."""

    def judged(*words: str | Path) -> int:
        capfd.readouterr()
        code = main([*map(str, words)])
        error = capfd.readouterr().err
        assert "Traceback" not in error
        assert code in (0, 2)
        assert bool(error) or not code, "what failed is said"
        return code

    return judged


@pytest.mark.parametrize("seed", range(40))
def test_directories(run: Run, tmp_path: Path, seed: int) -> None:
    source = random.Random(seed)
    path = tmp_path / "DICOMDIR"
    path.write_bytes(changed((DATA / "dicomdirtests" / DIRECTORIES[seed % 3]).read_bytes(), source))
    code = run("dcmdir", "list", path, "-l")
    assert run("dcmdir", "list", path, "--json") == code
    run("dcmdir", "verify", path)
    assert os.listdir(tmp_path) == ["DICOMDIR"]


@pytest.mark.parametrize("seed", range(40))
def test_pictures(run: Run, tmp_path: Path, seed: int) -> None:
    source = random.Random(seed)
    path, place = tmp_path / "x", tmp_path / "x.dcm"
    path.write_bytes(changed(bytes(PICTURES[seed % len(PICTURES)]), source))
    code = run("imgtodcm", path, place)
    assert place.exists() is (code == 0)
    if not code:
        assert pydicom.dcmread(place).SOPInstanceUID
    assert set(os.listdir(tmp_path)) <= {"x", "x.dcm"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_objects(run: Run, tmp_path: Path, seed: int) -> None:
    source = random.Random(seed)
    path = tmp_path / "x"
    path.write_bytes(changed((DATA / OBJECTS[seed % len(OBJECTS)]).read_bytes(), source))
    run("dcmextract", path, "--info")
    run("dcmextract", path, "-o", f"{tmp_path}/out/")
    code = run("dcmdir", "create", path, "--copy", tmp_path / "cd")
    assert (tmp_path / "cd").exists() is (code == 0)
    if not code:
        run("dcmdir", "verify", tmp_path / "cd")
