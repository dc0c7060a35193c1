"""Content tree of a structured report: value types, relationships, templates (PS3.3 C.17.3)."""

from __future__ import annotations

from typing import Final

from isocenter.services.dicom.iod.items import Item
from isocenter.services.dicom.iod.named_checks.family import SOP_CLASS_UID, Checks, storage
from isocenter.services.dicom.iod.named_checks.report_templates import check_template

VALUE_TYPE: Final = 0x0040A040
RELATIONSHIP: Final = 0x0040A010
CONTENT: Final = 0x0040A730
CONCEPT_NAME: Final = 0x0040A043
_CONTENT_ITEM_IDENTIFIER: Final = 0x0040DB73
_REFERENCED_SOP: Final = 0x00081199
_CODE_VALUES: Final = (0x00080100, 0x00080119, 0x00080120)
_SCHEME: Final = 0x00080102
_MEANING: Final = 0x00080104

_VALUE_TYPES: Final = frozenset(
    (
        "CODE", "COMPOSITE", "CONTAINER", "DATE", "DATETIME", "IMAGE", "NUM",
        "PNAME", "SCOORD", "SCOORD3D", "TABLE", "TCOORD", "TEXT", "TIME",
        "UIDREF", "WAVEFORM",
    )
)  # fmt: skip
_BASIC: Final = _VALUE_TYPES - {"NUM", "SCOORD", "SCOORD3D", "TABLE", "TCOORD"}
#: SOP class → value types of its content tree, where they are fewer (PS3.3 A.35).
_VALUE_TYPES_OF: Final = {
    **dict.fromkeys(storage("88.11"), _BASIC),
    **dict.fromkeys(storage("88.22", "88.33"), _VALUE_TYPES - {"SCOORD3D", "TABLE"}),
    **dict.fromkeys(storage("88.34"), _VALUE_TYPES - {"TABLE"}),
    **dict.fromkeys(storage("88.59"), _BASIC - {"DATE", "DATETIME", "TIME"}),
}
#: Relationship → value types of what it may lead from (PS3.3 C.17.3.2.4 and the tables of A.35).
_SOURCES: Final = {
    "CONTAINS": frozenset(("CONTAINER",)),
    "HAS OBS CONTEXT": _VALUE_TYPES - {"SCOORD", "SCOORD3D", "TCOORD"},
    "HAS ACQ CONTEXT": frozenset(("CONTAINER", "IMAGE", "WAVEFORM", "COMPOSITE", "NUM")),
    "HAS CONCEPT MOD": _VALUE_TYPES,
    "HAS PROPERTIES": _VALUE_TYPES - {"CONTAINER", "SCOORD", "SCOORD3D", "TCOORD"},
    "INFERRED FROM": _VALUE_TYPES - {"CONTAINER", "SCOORD", "SCOORD3D", "TCOORD"},
    "SELECTED FROM": frozenset(("SCOORD", "SCOORD3D", "TCOORD", "TABLE")),
}
#: Value type → element with its value, and the rule that it breaks where that is missing.
_VALUES: Final = {
    "TEXT": (0x0040A160, "TEXT-ERR-001"),
    "CODE": (0x0040A168, "CODE-ITEM-ERR-001"),
    "DATETIME": (0x0040A120, "DATETIME-ERR-001"),
    "DATE": (0x0040A121, "DATE-ERR-001"),
    "TIME": (0x0040A122, "TIME-ERR-001"),
    "PNAME": (0x0040A123, "PNAME-ERR-001"),
    "UIDREF": (0x0040A124, "UIDREF-ERR-001"),
    "COMPOSITE": (_REFERENCED_SOP, "COMPOSITE-ERR-001"),
    "WAVEFORM": (_REFERENCED_SOP, "WAVEFORM-ERR-001"),
    "TCOORD": (0x0040A130, "TCOORD-ERR-001"),
    "TABLE": (0x0040A801, "TABLE-ERR-001"),
}
_GRAPHIC_TYPE: Final = 0x00700023
_GRAPHIC_DATA: Final = 0x00700022
_FLAT_GRAPHICS: Final = frozenset(("POINT", "MULTIPOINT", "POLYLINE", "CIRCLE", "ELLIPSE"))
_SOLID_GRAPHICS: Final = frozenset(
    ("POINT", "MULTIPOINT", "POLYLINE", "POLYGON", "ELLIPSE", "ELLIPSOID")
)


_EVIDENCE: Final = (0x0040A375, 0x0040A385)
_SERIES: Final = 0x00081115
_INSTANCE: Final = 0x00081155


def _evidence(root: Item) -> frozenset[str]:
    """SOP Instance UIDs that the report lists as its evidence."""
    return frozenset(
        instance.text(_INSTANCE)
        for tag in _EVIDENCE
        for study in root.items(tag)
        for series in study.items(_SERIES)
        for instance in series.items(_REFERENCED_SOP)
    )


def check_content(checks: Checks) -> None:
    """Check the whole tree of the report."""
    root = checks.root
    evidence = _evidence(root)
    if root.text(VALUE_TYPE) != "CONTAINER":
        checks.say("CONTENT-ERR-001", "of the root is not CONTAINER", VALUE_TYPE)
    if CONTENT not in root.elements:
        checks.say("CONTENT-INFO-001", "is not there: the report is empty", CONTENT)
    elif not root.items(CONTENT):
        checks.say("CONTENT-INFO-002", "has no item: the report is empty", CONTENT)
    allowed = _VALUE_TYPES_OF.get(root.text(SOP_CLASS_UID), _VALUE_TYPES)
    todo = [(root, item) for item in reversed(root.items(CONTENT))]
    while todo:
        parent, item = todo.pop()
        _check_item(checks, parent, item, allowed)
        if item.text(VALUE_TYPE) in ("IMAGE", "COMPOSITE", "WAVEFORM"):
            for reference in item.items(_REFERENCED_SOP):
                if reference.text(_INSTANCE) and reference.text(_INSTANCE) not in evidence:
                    checks.say(
                        "EVIDENCE-ERR-001", "is not listed in the evidence", _INSTANCE, reference
                    )
        todo += [(item, inner) for inner in reversed(item.items(CONTENT))]
    check_template(checks)


def _check_item(checks: Checks, parent: Item, item: Item, allowed: frozenset[str]) -> None:
    relationship = item.text(RELATIONSHIP)
    source = parent.text(VALUE_TYPE)
    if relationship not in _SOURCES:
        what = "is none of the standard's" if relationship else "is missing"
        checks.say("ITEM-ERR-001", what, RELATIONSHIP, item)
    elif source in _VALUE_TYPES and source not in _SOURCES[relationship]:
        checks.say(
            "ITEM-ERR-004", f"{relationship} does not lead from {source}", RELATIONSHIP, item
        )
    if _CONTENT_ITEM_IDENTIFIER in item.elements:
        return  # by reference: it has no value of its own
    kind = item.text(VALUE_TYPE)
    if not kind:
        checks.say("ITEM-ERR-002", "is missing", VALUE_TYPE, item)
        return
    if kind not in _VALUE_TYPES:
        checks.say("ITEM-ERR-003", "is none of the standard's", VALUE_TYPE, item)
        return
    if kind not in allowed:
        checks.say("ITEM-ERR-003", f"{kind} is not one of this SOP class", VALUE_TYPE, item)
    if kind not in ("CONTAINER", "IMAGE", "COMPOSITE", "WAVEFORM", "SCOORD", "TCOORD", "SCOORD3D"):
        checks.needs("ITEM-ERR-005", CONCEPT_NAME, f"is missing of {kind}", item)
    for name in item.items(CONCEPT_NAME):
        _check_code(checks, name)
    _check_value(checks, item, kind)


def _check_value(checks: Checks, item: Item, kind: str) -> None:
    if kind in _VALUES:
        tag, code = _VALUES[kind]
        checks.needs(code, tag, f"is missing of {kind}", item)
    if kind == "CODE":
        for inner in item.items(0x0040A168):
            _check_code(checks, inner)
    elif kind == "NUM":
        _check_number(checks, item)
    elif kind == "IMAGE":
        references = item.items(_REFERENCED_SOP)
        if not references:
            checks.say("IMAGE-ERR-001", "is missing of IMAGE", _REFERENCED_SOP, item)
        for reference in references:
            checks.needs("IMAGE-ERR-002", 0x00081150, "is missing", reference)
            checks.needs("IMAGE-ERR-003", 0x00081155, "is missing", reference)
    elif kind == "SCOORD":
        _check_graphic(checks, item, "SCOORD-ERR-001", "SCOORD-ERR-002", _FLAT_GRAPHICS, 2)
    elif kind == "SCOORD3D":
        _check_graphic(checks, item, "SCOORD3D-ERR-001", "SCOORD3D-ERR-002", _SOLID_GRAPHICS, 3)
        checks.needs("SCOORD3D-ERR-003", 0x30060024, "is missing of SCOORD3D", item)


def _check_number(checks: Checks, item: Item) -> None:
    if 0x0040A300 not in item.elements:
        checks.say("NUM-ERR-001", "is missing of NUM", 0x0040A300, item)
    for measured in item.items(0x0040A300):
        checks.needs("NUM-ERR-002", 0x0040A30A, "is missing", measured)
        if 0x004008EA not in measured.elements:
            checks.say("NUM-ERR-003", "is missing", 0x004008EA, measured)
        for unit in measured.items(0x004008EA):
            _check_code(checks, unit)


def _check_graphic(
    checks: Checks, item: Item, no_type: str, no_data: str, types: frozenset[str], dimensions: int
) -> None:
    kind = item.text(_GRAPHIC_TYPE)
    if kind not in types:
        what = "is none of the standard's" if kind else "is missing"
        checks.say(no_type, what, _GRAPHIC_TYPE, item)
    data = item.elements.get(_GRAPHIC_DATA)
    if data is None or data.is_empty:
        checks.say(no_data, "is missing", _GRAPHIC_DATA, item)
    elif data.is_known and len(data.values) % dimensions:
        checks.say(no_data, f"is not made of {dimensions} numbers for each point", _GRAPHIC_DATA,
                   item)  # fmt: skip


def _check_code(checks: Checks, item: Item) -> None:
    if not any(item.text(tag) for tag in _CODE_VALUES):
        checks.say("CODE-ERR-001", "is missing", _CODE_VALUES[0], item)
    if not item.text(_SCHEME) and not item.text(0x00080120):
        checks.say("CODE-ERR-002", "is missing", _SCHEME, item)
    if not item.text(_MEANING):
        checks.say("CODE-ERR-003", "is missing", _MEANING, item)
