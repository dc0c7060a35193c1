"""How a data set is encoded, told from its bytes: guessed, or proven against what a file says."""

from __future__ import annotations

import struct
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.engine.dataset import (
    DEFLATED_LITTLE,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    Encoding,
    encoding_of,
    guess_encoding,
    read_file_meta,
    write_data_set,
)
from isocenter.engine.dataset.encoding_detection import proven_transfer_syntax
from isocenter.engine.uid import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)

DATA = Path(pydicom.__file__).parent / "data"


def files() -> list[Path]:
    return [
        path
        for path in sorted(DATA.rglob("*"))
        if path.is_file() and path.read_bytes()[128:132] == b"DICM"
    ]


@pytest.mark.parametrize("encoding", [EXPLICIT_LITTLE, EXPLICIT_BIG])
@pytest.mark.parametrize("is_first", [True, False])
def test_guessing_by_a_long_header_that_is_cut(encoding: Encoding, is_first: bool) -> None:
    """A header alone proves nothing; one behind a whole element does not take it back."""
    first = b"" if is_first else write_data_set([(0x00080005, "CS", b"A")], encoding)
    sign = ">" if encoding.big_endian else "<"
    cut = struct.pack(f"{sign}HH2s2x", 0x0008, 0x0006, b"OB")
    guessed = guess_encoding(first + cut)
    assert (guessed == encoding) is not is_first


def test_naked_data_sets_are_guessed() -> None:
    test_files = DATA / "test_files"
    for name, encoding in (
        ("ExplVR_LitEndNoMeta.dcm", EXPLICIT_LITTLE),
        ("ExplVR_BigEndNoMeta.dcm", EXPLICIT_BIG),
        ("rtstruct.dcm", IMPLICIT_LITTLE),
    ):
        content = (test_files / name).read_bytes()
        assert guess_encoding(content) == encoding
        assert guess_encoding(content[:200]) == encoding


#: Files whose data set is not in the encoding that their File Meta Information says, and
#: those that start with a group which makes implicit VR no safe guess.
GUESSED_OTHERWISE = {"SC_rgb_jpeg.dcm", "meta_missing_tsyntax.dcm", "priv_SQ.dcm"}


def test_every_bundled_data_set_is_guessed() -> None:
    for path in files():
        content = path.read_bytes()
        meta = read_file_meta(content)
        encoding = encoding_of(meta.transfer_syntax_uid)
        if encoding.deflated or path.name in GUESSED_OTHERWISE:
            continue
        assert guess_encoding(content[meta.data_set_offset :][:4096]) == encoding, path.name


def test_nothing_else_is_guessed_to_be_a_data_set() -> None:
    for path in DATA.rglob("*"):
        if path.suffix in {".txt", ".json", ".gz", ".icc", ".dump", ".py", ".csv"}:
            assert guess_encoding(path.read_bytes()) is None, path.name
    for content in (b"", bytes(1000), b"\xff" * 100, b"PK\x03\x04" + bytes(60), b"%PDF-1.7\n%"):
        assert guess_encoding(content) is None


# --- Against what the file says ---------------------------------------------------------------

SYNTAXES = {
    IMPLICIT_VR_LITTLE_ENDIAN: IMPLICIT_LITTLE,
    EXPLICIT_VR_LITTLE_ENDIAN: EXPLICIT_LITTLE,
    EXPLICIT_VR_BIG_ENDIAN: EXPLICIT_BIG,
}
ELEMENTS = [
    (0x0008_0005, "CS", b"ISO_IR 100"),
    (0x0008_0016, "UI", b"1.2.840.10008.5.1.4.1.1.7\0"),
    (0x0008_0018, "UI", b"1.2.3\0"),
    (0x0008_0020, "DA", b"20200102"),
    (0x0008_0060, "CS", b"OT"),
    (0x0010_0010, "PN", b"A^B "),
    (0x0010_0020, "LO", b"ID"),
    (0x0020_000D, "UI", b"1.2.4\0"),
    (0x0020_000E, "UI", b"1.2.5\0"),
]


@pytest.mark.parametrize("declared", [*SYNTAXES, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN])
@pytest.mark.parametrize(("syntax", "encoding"), SYNTAXES.items())
@pytest.mark.parametrize("count", [1, 3, 9])
def test_the_bytes_prove_their_encoding(
    declared: str, syntax: str, encoding: Encoding, count: int
) -> None:
    data = write_data_set(ELEMENTS[:count], encoding)
    assert proven_transfer_syntax(data, declared) == syntax


@pytest.mark.parametrize("declared", ["1.2.840.10008.1.2.4.50", "1.2.3.4"])
@pytest.mark.parametrize("encoding", SYNTAXES.values())
def test_what_is_compressed_is_what_it_says(declared: str, encoding: Encoding) -> None:
    """Nothing in the elements says how."""
    assert proven_transfer_syntax(write_data_set(ELEMENTS, encoding), declared) == declared


def test_a_data_set_that_is_deflated_is() -> None:
    deflated = write_data_set(ELEMENTS, DEFLATED_LITTLE)
    declared = DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
    assert proven_transfer_syntax(deflated, declared) == declared


@pytest.mark.parametrize(("declared", "encoding"), SYNTAXES.items())
def test_one_odd_element_proves_nothing(declared: str, encoding: Encoding) -> None:
    """Elements without a VR among those with one, or a VR that is none: read as it says."""
    for other in SYNTAXES.values():
        for at in range(8):
            data = b"".join(
                write_data_set([element], other if number == at else encoding)
                for number, element in enumerate(ELEMENTS)
            )
            assert proven_transfer_syntax(data, declared) == declared


def test_every_bundled_data_set_is_what_its_file_says_or_what_pydicom_sees() -> None:
    contradicted = {}
    for path in files():
        content = path.read_bytes()
        meta = read_file_meta(content)
        declared = meta.transfer_syntax_uid
        proven = proven_transfer_syntax(content[meta.data_set_offset :], declared)
        if proven != declared:
            contradicted[path.name] = proven
    assert contradicted == {}


@given(data=st.binary(max_size=300), declared=st.sampled_from([*SYNTAXES, "1.2.3"]))
def test_garbage_changes_nothing(data: bytes, declared: str) -> None:
    proven_transfer_syntax(data, declared)
    guess_encoding(data)
