"""An HL7 v2 message as segments and fields of text.

The hl7 library splits; what it is not asked to do is decided here: which character set the
bytes are in (MSH-18), how much a message may hold, and what escape sequences mean (HL7 v2
2.7; its own function for these writes the text of a field to the log).

It knows no segment by name, which is why any version and any local segment is read, in a time
that grows with the length of the message alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import field as dataclass_field
from typing import Final

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.integration.hl7.character_sets import codec_of_all
from isocenter.services.integration.hl7.errors import (
    DATA_TYPE_ERROR,
    SEGMENT_SEQUENCE_ERROR,
    Hl7Error,
    Location,
)

#: A message of some hundred segments is long already; each delimiter costs an object.
MOST_DELIMITERS: Final = 50_000
_LONGEST_HEADER: Final = 4_096
_HEADER_END: Final = re.compile(rb"[\r\n]")
#: Of a message, a batch and a file.
_HEADERS: Final = frozenset({"MSH", "BHS", "FHS"})
_SEGMENT: Final = re.compile(r"[A-Z][A-Z0-9]{2}", re.ASCII)
_DELIMITERS: Final = re.compile(r"MSH([!-/:-@\[-`{-~])((?:(?!\1)[!-/:-@\[-`{-~]){3,5})\1", re.ASCII)

_BREAKS: Final = frozenset({".br", ".sp", ".ce"})
_SPACE: Final = " "
#: Begins the escape sequences of ISO 2022.
_ESCAPE: Final = "\x1b"


class Hl7LibraryMissingError(IsocenterError):
    """The library is not installed."""

    error_code = ErrorCode.HL7


def require_library() -> None:
    """Raises `Hl7LibraryMissingError`, with the cure, if HL7 messages cannot be read here."""
    try:
        import hl7  # noqa: F401
    except ModuleNotFoundError as error:
        raise Hl7LibraryMissingError(
            "HL7 messages are read with python-hl7, which is not installed: "
            "pip install 'isocenter[hl7]'"
        ) from error


@dataclass(frozen=True, slots=True)
class Delimiters:
    """MSH-1 and MSH-2."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"


@dataclass(frozen=True)
class Segment:
    """One segment; its values are unescaped, and without space around them.

    Attributes:
        number: which one of its name, from 1.
    """

    name: str
    number: int
    raw: Sequence[object]
    delimiters: Delimiters
    codec: str
    #: An OBR is asked for the same by each of its steps, and may be as long as the message.
    _texts: dict[tuple[int, int, int, int], str] = dataclass_field(
        default_factory=dict, repr=False, compare=False
    )

    def text(
        self, field: int, component: int = 1, subcomponent: int = 1, repetition: int = 1
    ) -> str:
        """A value, by numbers as HL7 counts them; empty when it is not there, or null (``""``)."""
        place = (field, repetition - 1, component - 1, subcomponent - 1)
        if place not in self._texts:
            self._texts[place] = self._text(place)
        return self._texts[place]

    def _text(self, place: tuple[int, int, int, int]) -> str:
        node: object = self.raw
        # The library has a leaf wherever nothing more is divided.
        for index in place:
            if isinstance(node, str):
                if index:
                    return ""
                continue
            assert isinstance(node, Sequence)
            if index >= len(node):
                return ""
            node = node[index]
        assert isinstance(node, str)
        return "" if node == '""' else self._unescaped(node).strip()

    def repetitions(self, field: int) -> int:
        """How many repetitions a field has."""
        if field >= len(self.raw):
            return 0
        node = self.raw[field]
        assert isinstance(node, Sequence)
        return len(node) if str(node) else 0

    def place(self, field: int = 0) -> Location:
        """Of a field, for messages."""
        return Location(self.name, field, self.number)

    def as_sent(self, field: int) -> str:
        """A field as it stands in the message, to be sent back."""
        return str(self.raw[field]) if field < len(self.raw) else ""

    def _unescaped(self, text: str) -> str:
        escape = self.delimiters.escape
        if escape not in text:
            return text
        parts = text.split(escape)
        if not len(parts) % 2:  # an escape that is not closed stands for itself
            parts[-2:] = [escape.join(parts[-2:])]
        return "".join(
            self._meaning(part) if index % 2 else part for index, part in enumerate(parts)
        )

    def _meaning(self, sequence: str) -> str:
        """Of what stands between two escape characters; nothing for mere formatting."""
        d = self.delimiters
        named = {
            "F": d.field, "S": d.component, "R": d.repetition, "E": d.escape, "T": d.subcomponent,
        }  # fmt: skip
        if sequence in named:
            return named[sequence]
        if sequence[:3] in _BREAKS:
            return _SPACE
        if sequence[:1] == "X":
            try:
                text = bytes.fromhex(sequence[1:]).decode(self.codec)
            except ValueError:
                return ""
            return "".join(c if c.isprintable() else _SPACE for c in text)
        return ""


@dataclass(frozen=True)
class Message:
    """A message; its first segment is MSH."""

    segments: tuple[Segment, ...]

    @property
    def header(self) -> Segment:
        return self.segments[0]

    def first(self, name: str) -> Segment | None:
        """The first segment of that name."""
        return next(self.all(name), None)

    def all(self, name: str) -> Iterator[Segment]:
        return (segment for segment in self.segments if segment.name == name)


def header_of(data: bytes) -> Message | None:
    """The MSH of *data* alone, as far as it can be read; None: there is none.

    For an acknowledgement of what is otherwise no message.
    """
    head = _HEADER_END.split(data.lstrip(), maxsplit=1)[0][:_LONGEST_HEADER]
    try:
        return _parsed(head.decode("latin-1"), "latin-1")
    except Hl7Error:
        return None


def read_message(data: bytes, default_character_set: str = "ASCII") -> Message:
    """The message that *data* is.

    Args:
        default_character_set: of messages that do not say theirs (HL7 Table 0211).

    Raises:
        Hl7Error: it is none, or its text is not in the character set.
    """
    header = header_of(data)
    if header is None:
        raise Hl7Error(
            "it does not begin with an MSH segment and its delimiters",
            Location("MSH"),
            SEGMENT_SEQUENCE_ERROR,
            is_reject=True,
        )
    names = [
        header.header.text(18, repetition=number)
        for number in range(1, header.header.repetitions(18) + 1)
    ]
    is_said = any(names)
    codec = codec_of_all(names if is_said else [default_character_set])
    place = Location("MSH", 18)
    if codec is None:
        raise Hl7Error(
            "a character set that is not known here, or not with the others", place, DATA_TYPE_ERROR
        )
    try:
        text = data.decode(codec)
        # Bytes of seven bits are in every character set: only this tells that it is another.
        if _ESCAPE in text:
            raise UnicodeError
    except UnicodeError as error:
        cure = "" if is_said else "; say it there, or set hl7.character_set"
        raise Hl7Error(
            f"the text is not in the character set of the message{cure}", place, DATA_TYPE_ERROR
        ) from error
    return _parsed(text, codec)


def _parsed(text: str, codec: str) -> Message:
    import hl7

    text = text.lstrip("\ufeff \t\r\n").replace("\r\n", "\r")
    if "\r" not in text:
        # Some senders end segments with LF; in a message with CR it is part of a text.
        text = text.replace("\n", "\r")
    delimiters = _delimiters_of(text)
    count = sum(map(text.count, ("\r", *_fields_of(delimiters))))
    if count > MOST_DELIMITERS:
        raise Hl7Error(
            f"more than {MOST_DELIMITERS} fields", Location("MSH"), SEGMENT_SEQUENCE_ERROR,
            is_reject=True,
        )  # fmt: skip
    # Empty lines, and what is no segment, are nothing that the library would take.
    lines = [line for line in text.split("\r") if line.strip()]
    for number, line in enumerate(lines, 1):
        name = line.split(delimiters.field, 1)[0].rstrip()
        if not _SEGMENT.fullmatch(name) or (name in _HEADERS and number > 1):
            raise Hl7Error(
                f"line {number} does not begin with the name of a segment of a message",
                Location("MSH"),
                SEGMENT_SEQUENCE_ERROR,
                is_reject=True,
            )
    seen: Counter[str] = Counter()
    segments = []
    for line, raw in zip(lines, hl7.parse("\r".join(lines)), strict=True):
        name = line[:3]
        seen[name] += 1
        segments.append(Segment(name, seen[name], raw, delimiters, codec))
    return Message(tuple(segments))


def _delimiters_of(text: str) -> Delimiters:
    found = _DELIMITERS.match(text)
    if found is None or len(set(found[2])) != len(found[2]):
        raise Hl7Error(
            "it does not begin with an MSH segment and its delimiters",
            Location("MSH"),
            SEGMENT_SEQUENCE_ERROR,
            is_reject=True,
        )
    return Delimiters(found[1], *(found[2] + "&"[len(found[2]) - 3 :])[:4])


def _fields_of(delimiters: Delimiters) -> tuple[str, ...]:
    return (
        delimiters.field,
        delimiters.component,
        delimiters.repetition,
        delimiters.subcomponent,
    )
