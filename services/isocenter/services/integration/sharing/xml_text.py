"""XML of SOAP messages: written as text, read without entities and with bounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Final, NoReturn
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.xml_namespaces import XmlNamespaces, declared_prefix
from isocenter.services.net.http.client_errors import BrokenAnswerError

#: Elements within elements, and elements and attributes of one message.
_MOST_DEPTH: Final = 64
_MOST_ELEMENTS: Final = 200_000
_MOST_ATTRIBUTES: Final = 500_000
#: Bytes of one tag: expat gives its attributes only when it has all of them.
_MOST_TAG: Final = 1 << 20
_PIECE: Final = 64 << 10
_DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'


def element(name: str, attributes: Mapping[str, str] | None = None, *content: str) -> str:
    """An element around markup; its name and those of attributes have their prefixes."""
    said = "".join(
        f" {key}={quoteattr(_allowed(value))}" for key, value in (attributes or {}).items()
    )
    if not content:
        return f"<{name}{said}/>"
    return f"<{name}{said}>{''.join(content)}</{name}>"


def text(value: str) -> str:
    """Text as markup."""
    return escape(_allowed(value))


def document(root: str) -> bytes:
    """A whole document."""
    return (_DECLARATION + root).encode()


def _allowed(value: str) -> str:
    """Without characters that no XML has (XML 1.0 2.2)."""
    return "".join(c if c >= " " and not "\ud800" <= c <= "\udfff" else " " for c in value)


@dataclass(slots=True)
class XmlElement:
    """An element that was read.

    Attributes:
        name: without its namespace.
        text: directly within it.
    """

    name: str
    namespace: str
    attributes: Mapping[str, str]
    text: str = ""
    children: list[XmlElement] = field(default_factory=list)

    def all(self, name: str) -> Iterator[XmlElement]:
        """Elements of a name, anywhere below."""
        todo = list(reversed(self.children))
        while todo:
            one = todo.pop()
            if one.name == name:
                yield one
            todo += reversed(one.children)

    def within(self, name: str) -> Iterator[XmlElement]:
        """Elements of a name, directly below."""
        return (one for one in self.children if one.name == name)

    def first(self, name: str) -> XmlElement | None:
        """The first of them."""
        return next(self.all(name), None)


def read_xml_document(data: bytes) -> XmlElement:
    """The root of a document.

    Raises:
        BrokenAnswerError: it is no XML, declares a document type, or is beyond a bound.
    """
    reader = _Reader()
    try:
        reader.read(data)
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise BrokenAnswerError("the answer is no XML") from error
    assert reader.root is not None
    return reader.root


class _Reader:
    def __init__(self) -> None:
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.StartDoctypeDeclHandler = self._refuse
        parser.EntityDeclHandler = self._refuse
        parser.ExternalEntityRefHandler = self._refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        self.parser = parser
        self.root: XmlElement | None = None
        self._namespaces = XmlNamespaces()
        self._open: list[XmlElement] = []
        #: Text of each that is open, in the pieces that it came in: a document may be within.
        self._texts: list[list[str]] = []
        self._count = 0
        self._attributes = 0

    def read(self, data: bytes) -> None:
        """In pieces, so that a tag is refused before all of it is held."""
        view = memoryview(data)
        for start in range(0, len(data), _PIECE):
            piece = view[start : start + _PIECE]
            self.parser.Parse(piece, False)
            if start + len(piece) - self.parser.CurrentByteIndex > _MOST_TAG:
                raise BrokenAnswerError(f"the answer has a tag of more than {_MOST_TAG >> 20} MiB")
        self.parser.Parse(b"", True)

    def _refuse(self, *_arguments: object) -> NoReturn:
        raise BrokenAnswerError("the answer declares a document type or an entity")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        self._attributes += len(attributes)
        if len(self._open) >= _MOST_DEPTH or self._count > _MOST_ELEMENTS:
            raise BrokenAnswerError("the answer has too many elements, or they are too deep")
        if self._attributes > _MOST_ATTRIBUTES:
            raise BrokenAnswerError("the answer has too many attributes")
        namespace, local = self._namespaces.opened(name, attributes)
        plain = {
            key.rpartition(":")[2]: value
            for key, value in attributes.items()
            if declared_prefix(key) is None
        }
        found = XmlElement(name=local, namespace=namespace, attributes=plain)
        if self._open:
            self._open[-1].children.append(found)
        else:
            self.root = found
        self._open.append(found)
        self._texts.append([])

    def _end(self, _name: str) -> None:
        self._namespaces.closed()
        self._open.pop().text = "".join(self._texts.pop())

    def _characters(self, data: str) -> None:
        self._texts[-1].append(data)
