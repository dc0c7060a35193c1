"""Reader of the Native DICOM Model (PS3.19 A.1): no DTD, bounded.

What it takes: with the namespace of the standard or without one; private tags with the number of
their block or, with a creator, without it; values with numbers or in their order.
"""

from __future__ import annotations

from dataclasses import field
from typing import Any, Final, NoReturn
from xml.parsers import expat

from isocenter.engine.fast_init import dataclass
from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.services.dicom.model_reader import Model, ModelError
from isocenter.services.dicom.xml_namespaces import XmlNamespaces
from isocenter.services.dicom.xml_writer import NAMESPACE

#: Bytes of an XML text.
MAX_XML_LENGTH: Final = 256 << 20
#: Elements within elements: a sequence, its item and its attribute for each level, and a name.
_MOST_DEPTH: Final = 3 * DEFAULT_LIMITS.nesting + 8
#: The number that a value may have at most, and how many values may be empty between others.
_MOST_VALUES: Final = 1 << 20
_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_COMPONENTS: Final = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_FIRST_BLOCK: Final = 0x10
_LAST_BLOCK: Final = 0xFF
#: What may stand in what.
_CHILDREN: Final = {
    "": {"NativeDicomModel"},
    "NativeDicomModel": {"DicomAttribute"},
    "Item": {"DicomAttribute"},
    "DicomAttribute": {"Value", "PersonName", "Item", "InlineBinary", "BulkData"},
    "PersonName": set(_GROUPS),
    **{group: set(_COMPONENTS) for group in _GROUPS},
}
_TEXTS: Final = frozenset(("Value", "InlineBinary", *_COMPONENTS))


def read_xml(text: bytes) -> list[Model]:
    """The data set of an XML text, as DICOM JSON would have it; a list of one.

    Raises:
        ModelError: it is too long, no XML, or something else than a data set.
    """
    if len(text) > MAX_XML_LENGTH:
        raise ModelError(
            f"longer than {MAX_XML_LENGTH >> 20} MiB; keep bulk data in files of its own (BulkData)"
        )
    reader = _Reader()
    try:
        reader.parser.Parse(text, True)
    except expat.ExpatError as error:
        what = expat.ErrorString(error.code)
        raise ModelError(f"no XML: {what} (line {error.lineno}, column {error.offset})") from None
    except (LookupError, ValueError):
        raise ModelError("no XML: its encoding is not known") from None
    return [reader.model]


@dataclass(slots=True)
class _Attribute:
    """A DicomAttribute that is open."""

    tag: str
    vr: str
    creator: str
    #: Values by their number: texts, names, or the attributes of an item.
    values: dict[int, Any] = field(default_factory=dict)
    #: The highest of their numbers.
    last: int = 0
    inline: str | None = None
    uri: str | None = None

    def add(self, number: str | None, value: object) -> None:
        place = self.last + 1 if number is None else _number(number)
        if place in self.values:
            raise ModelError(f"{self.tag}: two values have number {place}")
        self.values[place] = value
        self.last = max(self.last, place)

    def as_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"vr": self.vr} if self.vr else {}
        if self.values:
            found["Value"] = [self.values.get(n + 1) for n in range(self.last)]
        if self.inline is not None:
            found["InlineBinary"] = self.inline
        if self.uri is not None:
            found["BulkDataURI"] = self.uri
        return found


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text[:9]) <= _MOST_VALUES):
        raise ModelError(f"the number of a value is none from 1 to {_MOST_VALUES}")
    return int(text[:9])


class _Reader:
    def __init__(self) -> None:
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.StartDoctypeDeclHandler = self._refuse_doctype
        parser.EntityDeclHandler = self._refuse_doctype
        parser.ExternalEntityRefHandler = self._refuse_doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        self.parser = parser
        self.model: dict[str, Any] = {}
        self._namespaces = XmlNamespaces()
        #: Values that are not there, before others that are.
        self._empty = 0
        self._path: list[str] = []
        #: Attributes of each item that is open, and its number; and those that are open.
        self._items: list[tuple[list[_Attribute], str | None]] = []
        self._attributes: list[_Attribute] = []
        self._name: dict[str, dict[str, str]] = {}
        self._number: str | None = None
        self._text: list[str] = []

    def _refuse_doctype(self, *_: object) -> NoReturn:
        raise ModelError("has a DOCTYPE or entities; they are not taken (no data set needs them)")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        try:
            namespace, local = self._namespaces.opened(name, attributes)
        except ValueError as error:
            raise ModelError(f"no XML: {error} (line {self.parser.CurrentLineNumber})") from None
        around = self._path[-1] if self._path else ""
        if namespace not in ("", NAMESPACE) or local not in _CHILDREN.get(around, ()):
            place = f"in {around}" if around else "as the document"
            shown = local if len(local) <= 40 else local[:40] + "…"
            raise ModelError(
                f"no Native DICOM Model: <{shown}> {place} (line {self.parser.CurrentLineNumber})"
            )
        if len(self._path) >= _MOST_DEPTH:
            raise ModelError(f"sequences nested deeper than {DEFAULT_LIMITS.nesting}")
        self._path.append(local)
        self._text.clear()
        if local in ("NativeDicomModel", "Item"):
            self._items.append(([], attributes.get("number")))
        elif local == "DicomAttribute":
            self._attributes.append(
                _Attribute(
                    attributes.get("tag", ""),
                    attributes.get("vr", ""),
                    attributes.get("privateCreator", "").strip(),
                )
            )
        elif local in ("Value", "PersonName"):
            self._number = attributes.get("number")
            self._name = {}
        elif local in _GROUPS:
            self._name[local] = {}
        elif local == "BulkData":
            # A UUID names what is nowhere.
            self._attributes[-1].uri = attributes.get("uri") or attributes.get("uuid", "")

    def _characters(self, text: str) -> None:
        if self._path[-1] in _TEXTS:
            self._text.append(text)
        elif text.strip():
            raise ModelError(f"no Native DICOM Model: text in <{self._path[-1]}>")

    def _end(self, name: str) -> None:
        self._namespaces.closed()
        local = self._path.pop()
        text = "".join(self._text)
        self._text.clear()
        if local == "Value":
            self._attributes[-1].add(self._number, text or None)
        elif local == "InlineBinary":
            self._attributes[-1].inline = text
        elif local in _COMPONENTS:
            self._name[self._path[-1]][local] = text
        elif local == "PersonName":
            groups = {group: _joined(parts) for group, parts in self._name.items()}
            groups = {group: value for group, value in groups.items() if value}
            self._attributes[-1].add(self._number, groups or None)
        elif local == "DicomAttribute":
            attribute = self._attributes.pop()
            self._empty += attribute.last - len(attribute.values)
            if self._empty > _MOST_VALUES:
                raise ModelError(f"more than {_MOST_VALUES} values are left out before others")
            self._items[-1][0].append(attribute)
        elif local == "Item":
            attributes, number = self._items.pop()
            self._attributes[-1].add(number, _item(attributes))
        elif local == "NativeDicomModel":
            self.model = _item(self._items.pop()[0])


def _joined(parts: dict[str, str]) -> str:
    return "^".join([parts.get(component, "") for component in _COMPONENTS]).rstrip("^")


def _item(attributes: list[_Attribute]) -> dict[str, Any]:
    """The attributes of a data set or item by tag, private ones in the block of their creator."""
    blocks: dict[tuple[str, str], int] = {}
    found: dict[str, Any] = {}
    for attribute in attributes:
        tag = attribute.tag.upper()
        if not attribute.creator and len(tag) == 8 and _block(tag[4:]) is not None:
            creator = attribute.values.get(1)
            if isinstance(creator, str):
                blocks.setdefault((tag[:4], creator.strip()), int(tag[6:], 16))
    taken = {(group, block) for (group, _), block in blocks.items()}
    for attribute in attributes:
        tag = attribute.tag.upper()
        if attribute.creator and len(tag) == 8 and tag[4:6] == "00":
            group = tag[:4]
            block = blocks.get((group, attribute.creator))
            if block is None:
                free = set(range(_FIRST_BLOCK, _LAST_BLOCK + 1))
                free -= {number for owner, number in taken if owner == group}
                if not free:
                    raise ModelError(f"group {group} has no block left for a private creator")
                block = min(free)
                blocks[group, attribute.creator] = block
                taken.add((group, block))
                found[f"{group}{block:04X}"] = {"vr": "LO", "Value": [attribute.creator]}
            tag = f"{group}{block:02X}{tag[6:]}"
        if tag in found:
            raise ModelError(f"({tag[:4]},{tag[4:]}) is there twice")
        found[tag] = attribute.as_json()
    return found


def _block(element: str) -> int | None:
    """The block that a private creator reserves, by its element number."""
    try:
        number = int(element, 16)
    except ValueError:
        return None
    return number if _FIRST_BLOCK <= number <= _LAST_BLOCK else None
