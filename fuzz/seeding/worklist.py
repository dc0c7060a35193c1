"""Seeds of the worklist: identifiers of queries, and files with entries."""

from __future__ import annotations

from typing import Final

import orjson
from corpora import Seeds

from isocenter.engine.uid import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.worklist.order_fields import entry_of_order
from isocenter.services.service_classes.worklist.scu import worklist_keys

_SYNTAXES: Final = {
    "implicit": IMPLICIT_VR_LITTLE_ENDIAN,
    "explicit": EXPLICIT_VR_LITTLE_ENDIAN,
    "big-endian": EXPLICIT_VR_BIG_ENDIAN,
}
_STEP: Final = "(0040,0100)[0]."
_QUERIES: Final[dict[str, list[tuple[str, str]]]] = {
    "everything": worklist_keys(),
    "morning": worklist_keys({"station_ae": "CT_01", "date": "20260228", "modality": "CT"}),
    "point-in-time": worklist_keys({"date": "20260228-20260301", "time": "2200-0100"}),
    "patient": [("PatientName", "SEED^O*"), ("PatientID", "S?ED"), ("PregnancyStatus", "4")],
    "status": [(f"{_STEP}(0040,0020)", "SCHEDULED\\STARTED")],
    "deep": [(f"{_STEP}(0040,0008)[0].(0008,0100)", "CH*"), ("(0009,1001)", "")],
    "empty-value": [("AccessionNumber", '""'), ("PatientWeight", "70.50")],
}
_ORDER: Final = {
    "step_id": "SPS1",
    "accession_no": "A1",
    "patient_id": "SEED",
    "patient_name": "SEED^ONE",
    "modality": "CT",
    "station_ae": "CT_01",
    "scheduled_datetime": "20260228093000",
    "procedure_desc": "CT",
    "protocol_code": "CHEST^99SEED^Chest",
    "attributes": {"PatientWeight": "70"},
}
_DUMP: Final = b"""\
# Dicom-Data-Set
(0008,0005) CS [ISO_IR 100]
(0008,0050) SH A1
(0009,1001) OW 0102\\ff
(0010,0010) PN [SEED^\xd6NE]   # comment
(0010,0020) LO SEED
(0020,000d) UI 1.2.3
(0028,0009) AT (3004,000c)
(0040,1001) SH RP1
(0040,0100) SQ
  (fffe,e000) -
    (0040,0009) SH SPS1
    (0040,0001) AE CT_01
    (0040,0002) DA [20260228]
    (0040,0003) TM 0930
    (0008,0060) CS CT
    (0040,0008) SQ
    (fffe,e0dd) -
  (fffe,e00d) -
(fffe,e0dd) -
"""


def worklist() -> Seeds:
    seeds = {}
    for name, keys in _QUERIES.items():
        for number, (ending, syntax) in enumerate(_SYNTAXES.items()):
            data = build_identifier(keys, None, syntax)
            seeds[f"{name}-{ending}"] = bytes((number,)) + data
    greek = [("PatientName", "\u0391*=\u5c71?")]
    data = build_identifier(greek, None, EXPLICIT_VR_LITTLE_ENDIAN, character_set=("ISO_IR 192",))
    return seeds | {"utf-8": b"\1" + data, "two-items": b"\1" + _two_items()}


def _two_items() -> bytes:
    item = bytes.fromhex("feff00e000000000")
    return bytes.fromhex("40000001") + b"SQ\0\0" + (2 * len(item)).to_bytes(4, "little") + 2 * item


def entries() -> Seeds:
    order = orjson.dumps(_ORDER)
    entry = entry_of_order(_ORDER, "an order")[0]
    model = entry.attributes.to_dataset().to_json().encode()
    other = orjson.dumps({**_ORDER, "step_id": "SPS2", "step_status": "STARTED"})
    bare: dict[str, bytes] = {
        f"bare-{name}": AttributeList(entry.attributes.elements).encode(syntax)
        for name, syntax in _SYNTAXES.items()
    }
    return bare | {
        "dump": _DUMP,
        "order": order,
        "absurd-key": orjson.dumps({**_ORDER, "\1" * 50: ""}),
        "absurd-path": orjson.dumps({**_ORDER, "attributes": {"\1" * 50: ""}}),
        "orders": b"[" + order + b"," + other + b"]",
        "lines": order + b"\n" + other + b"\n",
        "data": b'{"data": [' + order + b"]}",
        "twice": b"[" + order + b"," + order + b"]",
        "json-model": model,
        "wrong-field": b'{"step": "SPS1"}',
    }
