"""Entries from files: what is read, what is refused, and that nothing else comes out."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.engine.dataset import write_file_meta
from isocenter.engine.uid import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.services.service_classes.worklist import entry_files as files
from isocenter.services.service_classes.worklist.entry import (
    MODALITY_WORKLIST_FIND,
    EntryState,
    InvalidEntryError,
)
from isocenter.services.service_classes.worklist.entry_files import entries_in, read_entries
from isocenter.services.service_classes.worklist.order_fields import (
    ATTRIBUTES,
    CODES,
    DATE_TIME,
    FIELDS,
    STEP_STATUS,
)
from services.dicom.test_text_dump import ENTRY
from services.service_classes.worklist.samples import entry, order

SYNTAXES = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
)
EXPECTED = [(entry(1), EntryState.SCHEDULED), (entry(2), EntryState.STARTED)]
ORDERS = [order(1), order(2, step_status="STARTED")]


def part_10(number: int = 1, syntax: str = EXPLICIT_VR_LITTLE_ENDIAN) -> bytes:
    head = write_file_meta(MODALITY_WORKLIST_FIND, "1.2.3", syntax)
    return head + entry(number).attributes.encode(syntax)


@pytest.mark.parametrize(
    "content",
    [
        orjson.dumps(ORDERS),
        orjson.dumps({"data": ORDERS}),
        b"\xef\xbb\xbf \n" + orjson.dumps(ORDERS, option=orjson.OPT_INDENT_2),
        b"\n".join(map(orjson.dumps, ORDERS)),
        b"\n\n".join(map(orjson.dumps, ORDERS)) + b"\r\n",
    ],
    ids=["list", "data", "indented", "lines", "spaced lines"],
)
def test_json(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "orders.json"
    path.write_bytes(content)
    assert read_entries(path, "orders.json") == EXPECTED


def test_one_order_alone() -> None:
    assert entries_in(orjson.dumps(order(1)), "a.json") == EXPECTED[:1]
    assert entries_in(b"[]", "a.json") == []


def test_the_dicom_json_model() -> None:
    dataset = entry(1).attributes.to_dataset()
    dataset.ScheduledProcedureStepSequence[0].ScheduledProcedureStepStatus = "COMPLETED"
    content = orjson.dumps([dataset.to_json_dict()])
    ((read, state),) = entries_in(content, "a.json")
    assert read.key == entry(1).key
    assert read.text(0x00100010) == "DOE^JANE"
    assert state is EntryState.COMPLETED


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_dicom_files(syntax: str) -> None:
    ((read, state),) = entries_in(part_10(1, syntax), "a.dcm")
    assert read == entry(1)
    assert state is EntryState.SCHEDULED


@pytest.mark.parametrize("syntax", SYNTAXES[:3])
def test_a_data_set_alone(syntax: str) -> None:
    assert entries_in(entry(1).attributes.encode(syntax), "a.dcm")[0][0] == entry(1)


def test_a_term_that_is_no_state_of_ours_is_scheduled() -> None:
    line = b"    (0040,0009) SH  SPS1\n"
    arrived = ENTRY.replace(line, line + b"    (0040,0020) CS  ARRIVED\n")
    assert entries_in(arrived, "a.dump")[0][1] is EntryState.SCHEDULED
    started = ENTRY.replace(line, line + b"    (0040,0020) CS  STARTED\n")
    assert entries_in(started, "a.dump")[0][1] is EntryState.STARTED


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (orjson.dumps([order(1), order(2, modality="c t")]), "x.json, entry 2: (0040,0100)>"),
        (orjson.dumps([order(1), order(1)]), "entry 2: (0040,0009) Scheduled Procedure Step ID"),
        (orjson.dumps([order(1), 7]), "x.json, entry 2 is no JSON object"),
        (orjson.dumps(order(1)) + b"\n[]\n", "x.json, line 2 is no JSON object"),
        (orjson.dumps(order(1)) + b"\n" + orjson.dumps(order(2, sex="X")), "line 2: (0010,0040)"),
        (b'[{"step_id": ', "x.json: no JSON, at line 1"),
        (b"{}", "x.json: "),
        (b'{"00100020": 7}', "not the DICOM JSON model"),
        (b'{"00100020": {"vr": "LO", "Value": [{}]}}', "x.json"),
        (b"", "neither JSON nor DICOM nor a text dump"),
        (b"hello", "neither JSON nor DICOM nor a text dump"),
        (b"(0010,0020) LO DOE\n", "x.json: (0040,0100) needs one item"),
        (part_10()[:-40], "x.json: "),
    ],
)
def test_a_fault_names_file_entry_and_key_and_no_value(content: bytes, said: str) -> None:
    with pytest.raises(InvalidEntryError) as caught:
        entries_in(content, "x.json")
    assert said in str(caught.value)
    assert "DOE" not in str(caught.value)
    assert "PAT" not in str(caught.value)


def test_sizes_are_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "orders.json"
    path.write_bytes(orjson.dumps(ORDERS))
    monkeypatch.setattr(files, "MOST_ENTRIES", 1)
    with pytest.raises(InvalidEntryError, match="more than 1 entries"):
        read_entries(path, "a")
    with pytest.raises(InvalidEntryError, match="more than 1 entries"):
        entries_in(b"\n".join(map(orjson.dumps, ORDERS)), "a")
    monkeypatch.setattr(files, "MOST_BYTES", 100)
    with pytest.raises(InvalidEntryError, match="longer than 100 bytes"):
        read_entries(path, "a")


_DOCS = Path(__file__).parents[4] / "docs"


def test_the_examples_of_the_documentation_are_entries() -> None:
    page = (_DOCS / "how-to" / "worklist.md").read_text()
    blocks = [block.partition("\n") for block in page.split("```")[1::2]]
    read = [
        entries_in(text.encode(), "the page")
        for language, _, text in blocks
        if language == "json" or text.startswith("(")
    ]
    assert [entry.key.step_id for ((entry, _),) in read] == ["SPS1", "SPS1"]
    table = (_DOCS / "reference" / "worklist-fields.md").read_text()
    for name in (*FIELDS, *CODES, DATE_TIME, STEP_STATUS, ATTRIBUTES):
        assert f"`{name}`" in table


def _nested(depth: int) -> bytes:
    return b'{"00400100":{"vr":"SQ","Value":[' * depth + b"{}" + b"]}}" * depth


@pytest.mark.parametrize("content", [b"[" * 100_000, _nested(200), _nested(5_000)])
def test_nesting_is_bounded(content: bytes) -> None:
    with pytest.raises(InvalidEntryError):
        entries_in(content, "a")


_SAMPLES = [
    orjson.dumps(ORDERS),
    part_10(),
    ENTRY,
    orjson.dumps(entry(1).attributes.to_dataset().to_json_dict()),
]


@given(st.data())
def test_whatever_a_file_holds_there_are_entries_or_a_fault(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(_SAMPLES)))
    for _ in range(data.draw(st.integers(1, 5))):
        start = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(start, min(len(content), start + 20)))
        content[start:end] = data.draw(st.binary(max_size=8) | st.sampled_from([b"SQ", b"]", b"{"]))
    with suppress(InvalidEntryError):
        assert all(each.key.step_id for each, _ in entries_in(bytes(content), "a"))


@pytest.mark.parametrize(
    "key", ["\1" * 50, "\\" * 200, "x" * 100_000, "\N{PILE OF POO}" * 90, "(0010,0010)[" * 30]
)
@pytest.mark.parametrize("below", [False, True])
def test_a_fault_quotes_no_absurd_key_whole(key: str, below: bool) -> None:
    """A key is somebody's text: of any length, and of any characters."""
    content = {**order(1), "attributes": {key: "1"}} if below else {**order(1), key: "1"}
    with pytest.raises(InvalidEntryError) as caught:
        entries_in(orjson.dumps(content), "a file")
    text = str(caught.value)
    assert len(text) <= 250
    assert text.isprintable()
    assert repr(key[:5])[:-1] in text
