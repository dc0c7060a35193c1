"""Structured reports as text and HTML (PS3.3 C.17.3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.model_reader import Model

_REPORTS: Final = "1.2.840.10008.5.1.4.1.1.88."
_INDENT: Final = "  "
_TITLE: Final = "0040A043"
_VALUE_TYPE: Final = "0040A040"
_CONTENT: Final = "0040A730"
#: Of an item that stands for another one: where that is in the tree.
_REFERENCE: Final = "0040DB73"
#: Value type → the attribute that has its value, where that is text.
_TEXTS: Final = {
    "TEXT": "0040A160",
    "DATETIME": "0040A120",
    "DATE": "0040A121",
    "TIME": "0040A122",
    "PNAME": "0040A123",
    "UIDREF": "0040A124",
}
#: What stands above the content: patient, study, and how far the report is.
_HEADER: Final = (
    ("00100010", "Patient"), ("00100020", "Patient ID"), ("00100030", "Birth date"),
    ("00080020", "Study date"), ("00081030", "Study"), ("00080050", "Accession number"),
    ("0040A491", "Completion"), ("0040A493", "Verification"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An item of the content tree.

    Attributes:
        depth: 0: directly below the title.
        name: its concept; empty: none.
        value: empty of a container.
    """

    depth: int
    name: str
    value: str

    @property
    def text(self) -> str:
        return ": ".join(part for part in (self.name, self.value) if part)


def is_report(sop_class_uid: str) -> bool:
    """Whether a SOP class is one of structured reports."""
    return sop_class_uid.startswith(_REPORTS)


def title_of(model: Model) -> str:
    """The title of a report, in the DICOM JSON Model; never empty."""
    return _meaning(model.get(_TITLE)) or "Structured report"


def lines_of(model: Model) -> Iterator[Line]:
    """The content tree of a report, from the top."""
    todo = [(0, item) for item in reversed(_items(model.get(_CONTENT)))]
    while todo:
        depth, item = todo.pop()
        yield Line(depth=depth, name=_meaning(item.get(_TITLE)), value=_value(item))
        todo += [(depth + 1, inner) for inner in reversed(_items(item.get(_CONTENT)))]


def report_text(model: Model) -> str:
    """A report as plain text."""
    title = title_of(model)
    found = [title, "=" * len(title), ""]
    found += [f"{name}: {value}" for name, value in _header(model)]
    found.append("")
    for line in lines_of(model):
        margin = _INDENT * line.depth
        first, *more = line.text.splitlines() or [""]
        found.append(f"{margin}- {first}")
        found += [f"{margin}{_INDENT}{text}" for text in more]
    return "\n".join(found) + "\n"


def report_html(model: Model) -> str:
    """A report as a page that loads and runs nothing."""
    title = escape(title_of(model))
    head = f'<head><meta charset="utf-8"><title>{title}</title></head>'
    found = [f'<!DOCTYPE html>\n<html lang="en">\n{head}\n<body>\n<h1>{title}</h1>\n<dl>\n']
    found += [
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>\n" for name, value in _header(model)
    ]
    found.append("</dl>\n")
    depth = -1
    for line in lines_of(model):
        if line.depth > depth:
            found.append("<ul>\n")  # one level deeper at a time
        else:
            found.append("</li>\n" + "</ul></li>\n" * (depth - line.depth))
        depth = line.depth
        name = f"<b>{escape(line.name)}</b>" if line.name else ""
        value = "<br>".join(escape(part) for part in line.value.splitlines())
        found.append(f"<li>{': '.join(part for part in (name, value) if part)}")
    found.append("</li>\n" + "</ul></li>\n" * depth + "</ul>\n" if depth >= 0 else "")
    found.append("</body>\n</html>\n")
    return "".join(found)


def _header(model: Model) -> list[tuple[str, str]]:
    return [(name, text) for tag, name in _HEADER if (text := _text(model.get(tag)))]


def _value(item: Model) -> str:
    place = _text(item.get(_REFERENCE))
    if place:
        return "see " + place.replace(", ", ".")
    kind = _text(item.get(_VALUE_TYPE))
    if kind in _TEXTS:
        return _text(item.get(_TEXTS[kind]))
    if kind == "CODE":
        return _meaning(item.get("0040A168"))
    if kind == "NUM":
        measured = next(iter(_items(item.get("0040A300"))), {})
        unit = next(iter(_items(measured.get("004008EA"))), {})
        number = _text(measured.get("0040A30A"))
        return f"{number} {_text(unit.get('00080100'))}".strip()
    if kind in ("IMAGE", "COMPOSITE", "WAVEFORM"):
        named = next(iter(_items(item.get("00081199"))), {})
        return f"{kind.lower()} {_text(named.get('00081155'))}".strip()
    if kind in ("SCOORD", "SCOORD3D", "TCOORD"):
        return _text(item.get("00700023") or item.get("0040A130")).lower()
    return ""


def _meaning(sequence: object) -> str:
    """The meaning of a code, else the code."""
    code = next(iter(_items(sequence)), {})
    return _text(code.get("00080104")) or _text(code.get("00080100"))


def _items(attribute: object) -> Sequence[Model]:
    values = attribute.get("Value") if isinstance(attribute, Mapping) else None
    if not isinstance(values, list):
        return ()
    return [value for value in values if isinstance(value, Mapping)]


def _text(attribute: object) -> str:
    values = attribute.get("Value") if isinstance(attribute, Mapping) else None
    if not isinstance(values, list):
        return ""
    return ", ".join(_one(value) for value in values if value is not None)


def _one(value: Any) -> str:
    if isinstance(value, Mapping):  # a name
        return " = ".join(str(value[group]) for group in value)
    return str(value)
