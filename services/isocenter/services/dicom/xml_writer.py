"""Writer of the Native DICOM Model (PS3.19 A.1), from bytes.

Private elements have no block in their tag but the name of their creator beside it, as the model
wants it; only where one creator has two blocks in a group, those of the second keep theirs, since
nothing else would tell them apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset.vr import Encoding
from isocenter.services.dicom.data_dictionary import keyword_for_tag
from isocenter.services.dicom.element_texts import fits, numbers_of, person_name_groups
from isocenter.services.dicom.element_values import decode_text
from isocenter.services.dicom.model_writer import UNFIT_LENGTH, UNKNOWN_TEXT, ModelWriter, Render
from isocenter.services.dicom.scope import Scope, is_private_creator

NAMESPACE: Final = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
#: What XML 1.0 cannot hold, however it is written (2.2).
_NO_CHARACTERS: Final = re.compile("[^\\t\\n\\r\\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_UNKNOWN: Final = "\ufffd"
#: A reader would make a line feed of it (XML 1.0 2.11).
RETURN: Final = {"\r": "&#13;"}
_NO_XML: Final = "characters that XML does not have, replaced by ?"
GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_COMPONENTS: Final = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
INFINITIES: Final = {"Infinity": "INF", "-Infinity": "-INF"}


def xml_of(data: Buffer, encoding: Encoding, **options: Any) -> bytes:
    """The data set *data* as an XML document, in UTF-8; *options* as of `XmlWriter`.

    Raises:
        DataSetError: truncated, malformed, nested too deep.
    """
    parts: list[str] = []
    XmlWriter(parts.append, **options).data_set(data, encoding)
    return "".join(parts).encode("utf-8")


class XmlWriter(ModelWriter):
    """Writes a data set as an XML document; see `ModelWriter` for what it takes.

    Args:
        charset: that of the bytes which the text becomes, for its declaration.
        is_pretty: one line for each attribute and value.
    """

    def __init__(
        self,
        write: Callable[[str], object],
        *,
        charset: str = "UTF-8",
        is_pretty: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(write, **options)
        self._charset = charset
        self._line = "\n" if is_pretty else ""

    def _begin(self) -> None:
        self._parts.append(
            f'<?xml version="1.0" encoding={quoteattr(self._charset)}?>{self._line}'
            f'<NativeDicomModel xmlns="{NAMESPACE}" xml:space="preserve">{self._line}'
        )

    def _finish(self) -> None:
        self._parts.append(f"</NativeDicomModel>{self._line}")

    def _open_sequence(self, tag: int, scope: Scope) -> None:
        self._parts.append(f"<DicomAttribute {self._head(tag, 'SQ', scope)}>{self._line}")

    def _open_item(self, number: int) -> None:
        self._parts.append(f'<Item number="{number + 1}">{self._line}')
        self._measure(1)

    def _close_item(self) -> None:
        self._parts.append(f"</Item>{self._line}")

    def _close_sequence(self, items: int) -> None:
        self._parts.append(f"</DicomAttribute>{self._line}")

    def _empty(self, tag: int, vr: str, scope: Scope) -> str:
        return f"<DicomAttribute {self._head(tag, vr, scope)}/>{self._line}"

    def _uri(self, tag: int, vr: str, uri: str, scope: Scope) -> str:
        return self._attribute(tag, vr, scope, f"<BulkData uri={quoteattr(uri)}/>{self._line}")

    def _around_inline(self, tag: int, vr: str, scope: Scope) -> tuple[str, str]:
        head = f"<DicomAttribute {self._head(tag, vr, scope)}>{self._line}<InlineBinary>"
        return head, f"</InlineBinary>{self._line}</DicomAttribute>{self._line}"

    def _head(self, tag: int, vr: str, scope: Scope) -> str:
        if not tag & 0x10000:
            return standard_head(tag, vr)
        creator = "" if is_private_creator(tag) else scope.creator_of(tag)
        if not creator:
            return f'tag="{tag:08X}" vr="{vr}"'
        if scope.is_first_block(tag):
            tag &= 0xFFFF00FF
        return f'tag="{tag:08X}" vr="{vr}" privateCreator={self._quoted(creator)}'

    def _quoted(self, text: str) -> str:
        return quoteattr(self._clean(text), RETURN)

    def _attribute(self, tag: int, vr: str, scope: Scope, content: str) -> str:
        if not content:
            return self._empty(tag, vr, scope)
        line = self._line
        return (
            f"<DicomAttribute {self._head(tag, vr, scope)}>{line}{content}</DicomAttribute>{line}"
        )

    # -- Elements with values ------------------------------------------------------------

    def _make_renderers(self) -> Mapping[str, Render]:
        return {
            **dict.fromkeys(
                ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "SH", "TM", "UC", "UI"),
                self._strings,
            ),
            **dict.fromkeys(("LT", "ST", "UR", "UT"), self._free_text),
            "PN": self._names,
            **dict.fromkeys(("AT", "FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"), self._numbers),
        }

    def _strings(self, tag: int, vr: str, raw: bytes, scope: Scope, big_endian: bool) -> str:
        text = self._decoded(raw, vr, scope)
        values = text.split("\\") if text else []
        return self._attribute(tag, vr, scope, self._values(values))

    def _free_text(self, tag: int, vr: str, raw: bytes, scope: Scope, big_endian: bool) -> str:
        text = self._decoded(raw, vr, scope)
        return self._attribute(tag, vr, scope, self._values([text] if text else []))

    def _numbers(self, tag: int, vr: str, raw: bytes, scope: Scope, big_endian: bool) -> str:
        if not fits(raw, vr):
            self.forgiven.setdefault(UNFIT_LENGTH, 0)
        found = numbers_of(raw, vr, big_endian=big_endian)
        found = [INFINITIES.get(value, value) for value in found]
        return self._attribute(tag, vr, scope, self._values(found))

    def _names(self, tag: int, vr: str, raw: bytes, scope: Scope, big_endian: bool) -> str:
        text = self._decoded(raw, vr, scope)
        if not text.strip("=\\"):
            return self._empty(tag, vr, scope)
        names = [
            f'<PersonName number="{number}">{self._name(value)}</PersonName>{self._line}'
            for number, value in enumerate(text.split("\\"), 1)
        ]
        return self._attribute(tag, vr, scope, "".join(names))

    def _name(self, text: str) -> str:
        return name_xml(zip(GROUPS, person_name_groups(text), strict=False), self._escaped)

    def _values(self, values: list[str]) -> str:
        return "".join(
            [
                f'<Value number="{number}">{self._escaped(value)}</Value>{self._line}'
                if value
                else f'<Value number="{number}"/>{self._line}'
                for number, value in enumerate(values, 1)
            ]
        )

    def _escaped(self, text: str) -> str:
        return escape(self._clean(text), RETURN)

    def _clean(self, text: str) -> str:
        cleaned = writable(text)
        if cleaned is not text:
            self.forgiven.setdefault(_NO_XML, 0)
        return cleaned

    def _decoded(self, raw: bytes, vr: str, scope: Scope) -> str:
        text = decode_text(raw, vr, scope.character_set)
        if not text.isascii() and _UNKNOWN in text:
            self.forgiven.setdefault(UNKNOWN_TEXT, 0)
        return text


def name_xml(groups: Iterable[tuple[str, str]], escaped: Callable[[str], str]) -> str:
    """What stands in a PersonName, of component groups by the names of `GROUPS`."""
    parts = []
    for name, group in groups:
        # What there is beyond five components stays in the last.
        components = group.split("^", len(_COMPONENTS) - 1)
        inner = "".join(
            [
                f"<{component}>{escaped(value)}</{component}>"
                for component, value in zip(_COMPONENTS, components, strict=False)
                if value
            ]
        )
        if inner:
            parts.append(f"<{name}>{inner}</{name}>")
    return "".join(parts)


def writable(text: str) -> str:
    """The same text, or another with question marks for what XML does not have."""
    if not text.isprintable() and _NO_CHARACTERS.search(text):
        return _NO_CHARACTERS.sub("?", text)
    return text


@lru_cache(maxsize=8192)
def standard_head(tag: int, vr: str) -> str:
    """The attributes of a DicomAttribute that is not private."""
    keyword = keyword_for_tag(tag)
    head = f'tag="{tag:08X}" vr="{vr}"'
    return f'{head} keyword="{keyword}"' if keyword else head
