"""Root templates of structured reports, typed from PS3.16: title, and what is below it."""

from __future__ import annotations

from typing import Final, NamedTuple

from isocenter.services.dicom.iod.items import Item
from isocenter.services.dicom.iod.named_checks.family import Checks

_TEMPLATE: Final = 0x0040A504
_IDENTIFIER: Final = 0x0040DB00
_MAPPING_RESOURCE: Final = 0x00080105
_CONTENT: Final = 0x0040A730
_NAME: Final = 0x0040A043
_RELATIONSHIP: Final = 0x0040A010
_VALUE_TYPE: Final = 0x0040A040
_CODE: Final = 0x00080100


class Needed(NamedTuple):
    """A content item that a template asks for.

    Attributes:
        codes: of its concept name, in DCM; one of them.
    """

    relationship: str
    value_type: str
    codes: tuple[str, ...]
    name: str


class Template(NamedTuple):
    """A root template.

    Attributes:
        titles: codes of the root's concept name, in DCM; empty: any.
        needed: directly below the root, mandatory in every case.
    """

    name: str
    titles: frozenset[str]
    needed: tuple[Needed, ...] = ()


_LANGUAGE: Final = Needed(
    "HAS CONCEPT MOD", "CODE", ("121049",), "Language of Content Item and Descendants"
)
_PROCEDURE: Final = Needed("HAS CONCEPT MOD", "CODE", ("121058",), "Procedure Reported")
_DOSE_SOURCE: Final = Needed("CONTAINS", "CODE", ("113854",), "Source of Dose Information")
#: CID 7010, Key Object Selection Document Title.
_SELECTION_TITLES: Final = frozenset(
    str(code)
    for first, last in (
        (113000, 113010), (113013, 113013), (113018, 113018), (113020, 113022), (113030, 113039),
        (128180, 128223), (128710, 128711), (128713, 128714), (130370, 130373),
    )
    for code in range(first, last + 1)
)  # fmt: skip
#: TID, under the mapping resource DCMR → template (PS3.16 A).
TEMPLATES: Final = {
    "1500": Template(
        "Measurement Report",
        frozenset(("126000", "126001", "126002", "126003")),
        (
            _LANGUAGE,
            _PROCEDURE,
            Needed(
                "CONTAINS", "CONTAINER", ("126010", "126011", "C0034375"),
                "Imaging Measurements, Derived Imaging Measurements or Qualitative Evaluations",
            ),
        ),
    ),
    "2000": Template("Basic Diagnostic Imaging Report", frozenset(), (_LANGUAGE,)),
    "2010": Template("Key Object Selection", _SELECTION_TITLES),
    "2006": Template(
        "Imaging Report With Conditional Radiation Exposure", frozenset(), (_LANGUAGE,)
    ),
    "4000": Template("Mammography CAD Document Root", frozenset(("111036",)), (_LANGUAGE,)),
    "4100": Template("Chest CAD Document Root", frozenset(("112000",)), (_LANGUAGE,)),
    "4120": Template("Colon CAD Document Root", frozenset(("112220",)), (_LANGUAGE,)),
    "5000": Template("OB-GYN Ultrasound Procedure Report", frozenset(("125000",)), (_LANGUAGE,)),
    "5100": Template("Vascular Ultrasound Report", frozenset(("125100",)), (_LANGUAGE,)),
    "5200": Template("Echocardiography Procedure Report", frozenset(("125200",)), (_LANGUAGE,)),
    "10001": Template(
        "Projection X-Ray Radiation Dose",
        frozenset(("113701",)),
        (
            _PROCEDURE,
            Needed("CONTAINS", "CODE", ("113705",), "Scope of Accumulation"),
            Needed("CONTAINS", "CONTAINER", ("113702",), "Accumulated X-Ray Dose Data"),
            Needed("CONTAINS", "CONTAINER", ("113706",), "Irradiation Event X-Ray Data"),
            _DOSE_SOURCE,
        ),
    ),
    "10011": Template(
        "CT Radiation Dose",
        frozenset(("113701",)),
        (
            _PROCEDURE,
            Needed("CONTAINS", "DATETIME", ("113809",), "Start of X-Ray Irradiation"),
            Needed("CONTAINS", "DATETIME", ("113810",), "End of X-Ray Irradiation"),
            Needed("CONTAINS", "CODE", ("113705",), "Scope of Accumulation"),
            Needed("CONTAINS", "CONTAINER", ("113811",), "CT Accumulated Dose Data"),
            _DOSE_SOURCE,
        ),
    ),
    "10021": Template("Radiopharmaceutical Radiation Dose", frozenset(("113500",)), (_PROCEDURE,)),
}  # fmt: skip
#: A relationship that another one stands for: older reports have the scope as a modifier.
_SAME_RELATIONSHIP: Final = {"113705": ("CONTAINS", "HAS OBS CONTEXT", "HAS CONCEPT MOD")}


def check_template(checks: Checks) -> None:
    """Check the root against the template that it says it is made by."""
    root = checks.root
    for reference in root.items(_TEMPLATE):
        identifier = reference.text(_IDENTIFIER)
        if reference.text(_MAPPING_RESOURCE) != "DCMR":
            continue
        template = TEMPLATES.get(identifier)
        if template is None:
            if not identifier.isdecimal():
                checks.say("TEMPLATE-ERR-001", "is no number of a template", _IDENTIFIER, reference)
            else:
                checks.say("TEMPLATE-INFO-001", "is not judged", _IDENTIFIER, reference)
            continue
        name = f"TID {identifier}, {template.name}"
        if template.titles and not _is_named(root, template.titles):
            checks.say("TEMPLATE-ERR-002", f"is no title of {name}", _NAME)
        for needed in template.needed:
            if not any(_is(item, needed) for item in root.items(_CONTENT)):
                checks.say(
                    "TEMPLATE-WARN-001",
                    f"has no {needed.name} ({needed.relationship} {needed.value_type}), "
                    f"which {name} asks for",
                    _CONTENT,
                )  # fmt: skip


def _is(item: Item, needed: Needed) -> bool:
    relationships = _SAME_RELATIONSHIP.get(needed.codes[0], (needed.relationship,))
    return (
        item.text(_RELATIONSHIP) in relationships
        and item.text(_VALUE_TYPE) == needed.value_type
        and _is_named(item, needed.codes)
    )


def _is_named(item: Item, codes: frozenset[str] | tuple[str, ...]) -> bool:
    return any(name.text(_CODE) in codes for name in item.items(_NAME))
