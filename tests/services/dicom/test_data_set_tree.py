"""Trees of data sets: what is not changed is written byte for byte, lengths follow what is."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.engine.dataset import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    DataSetError,
    Encoding,
    encoding_of,
    read_data_set,
    read_file_head,
    write_data_set,
)
from isocenter.engine.dataset.walker import Tolerance
from isocenter.engine.dataset.writer import WritableElement
from isocenter.services.dicom.data_set_edits import Editor, Kind, parse_edit
from isocenter.services.dicom.data_set_tree import DataSetTree

DATA = Path(pydicom.__file__).parent / "data" / "test_files"
ENCODINGS = (EXPLICIT_LITTLE, IMPLICIT_LITTLE, EXPLICIT_BIG)
ITEM: list[WritableElement] = [
    (0x00400007, "LO", b"ab"),
    (0x00400008, "SQ", [[(0x00080100, "SH", b"cd")], []]),
]
NESTED: list[WritableElement] = [
    (0x00080018, "UI", b"1.2.3\0"),
    (0x00400275, "SQ", [ITEM, ITEM]),
    (0x00420010, "ST", b"behind"),
]


def written(tree: DataSetTree) -> bytes:
    return b"".join(map(bytes, tree.pieces()))


@pytest.mark.parametrize("path", sorted(DATA.glob("*.dcm")), ids=lambda path: path.name)
def test_what_is_not_changed_is_written_as_it_was(path: Path) -> None:
    content = path.read_bytes()
    try:
        head = read_file_head(content)
    except DataSetError:
        pytest.skip("no DICOM")
    encoding = encoding_of(head.transfer_syntax_uid)
    if encoding.deflated:
        pytest.skip("deflated")
    data = memoryview(content)[head.data_set_offset :]
    tree = DataSetTree(data, encoding, tolerance=Tolerance.SALVAGE)
    assert written(tree) == bytes(data)
    if "truncated" in path.name:
        return  # lengths that say more than there is are mended
    # Also where everything is put together anew.
    for item in tree.items():
        item.touch()
    assert written(tree) == bytes(data)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_lengths_become_undefined_and_defined_again(encoding: Encoding) -> None:
    data = write_data_set(NESTED, encoding)
    tree = DataSetTree(memoryview(data), encoding)
    tree.set_lengths(undefined=True)
    undefined = written(tree)
    assert len(undefined) > len(data)
    mark = b"\xff\xfe\xe0\x0d" if encoding.big_endian else b"\xfe\xff\x0d\xe0"
    assert undefined.count(mark) == 6
    assert read_data_set(undefined, encoding).keys() == read_data_set(data, encoding).keys()
    tree = DataSetTree(memoryview(undefined), encoding)
    tree.set_lengths(undefined=False)
    assert written(tree) == data


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_group_lengths_are_put_in_and_taken_away(encoding: Encoding) -> None:
    data = write_data_set(NESTED, encoding)
    tree = DataSetTree(memoryview(data), encoding)
    tree.set_group_lengths(wanted=True)
    with_lengths = written(tree)
    order = "big" if encoding.big_endian else "little"
    assert read_data_set(with_lengths, encoding)[0x00080000].value == (14).to_bytes(4, order)
    tree = DataSetTree(memoryview(with_lengths), encoding)
    tree.set_group_lengths(wanted=False)
    assert written(tree) == data


@given(
    st.lists(
        st.sampled_from([
            "i 0040,0275[0].0040,0007=longer than it was",
            "i 0040,0275[1].0040,0008[0].0008,0100=E",
            "i 0040,0275[2].0040,0009=new",
            "e 0040,0275[0]",
            "e 0042,0010",
            "i 0010,0020=X1",
            "e 0040,0275[*].0040,0008",
            "i 0040,0275[0].0040,0008[1].0008,0104=text",
        ]),
        max_size=6,
    ),
    st.sampled_from(ENCODINGS),
    st.booleans(),
)  # fmt: skip
def test_any_edits_leave_a_data_set(edits: list[str], encoding: Encoding, undefined: bool) -> None:
    tree = DataSetTree(memoryview(write_data_set(NESTED, encoding)), encoding)
    if undefined:
        tree.set_lengths(undefined=True)
        tree = DataSetTree(memoryview(written(tree)), encoding)
    editor = Editor(ignore_missing=True)
    for edit in edits:
        word, _, rest = edit.partition(" ")
        try:
            editor.apply(tree, parse_edit({"i": Kind.INSERT, "e": Kind.ERASE}[word], rest))
        except ValueError:
            continue  # an item further on than the next one
    result = written(tree)
    forgiven: dict[str, int] = {}
    again = DataSetTree(memoryview(result), encoding, tolerance=Tolerance.STRICT, forgiven=forgiven)
    assert written(again) == result
    assert not forgiven


@pytest.mark.parametrize(
    "header", [b"\x10\0\x20\0LO\x50\0", b"\x10\0\x20\0\x50\0\0\0", b"\x10\0\x20\0??\x50\0"]
)
def test_a_value_that_was_cut_gets_a_header_that_is_right(header: bytes) -> None:
    """Whatever stood in the place of its VR."""
    start = write_data_set([(0x00080018, "UI", b"1.2.3\0")], EXPLICIT_LITTLE)
    data = memoryview(start + header + b"12345")
    tree = DataSetTree(data, EXPLICIT_LITTLE, tolerance=Tolerance.SALVAGE)
    tree.repair()
    repaired = written(tree)
    assert repaired == start + b"\x10\0\x20\0LO\6\x0012345 "
