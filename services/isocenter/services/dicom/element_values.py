"""Values of elements as text, and text as values (PS3.5 6.1, 6.2).

Several values stay joined by a backslash.  Decoding never fails: bytes that their
character set does not know become U+FFFD.  Encoding does, as a name with question
marks would be another name.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from struct import Struct
from typing import Final

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.character_sets import ESCAPE_SEQUENCES, TERMS

#: VRs that Specific Character Set (0008,0005) speaks of (PS3.5 6.1.2.3).
CHARACTER_SET_VRS: Final = frozenset(["LO", "LT", "PN", "SH", "ST", "UC", "UT"])
#: One value, whatever characters it holds; its leading spaces count (PS3.5 6.2).
_FREE_TEXT_VRS: Final = frozenset(["LT", "ST", "UT", "UR"])
UTF_8: Final = ("ISO_IR 192",)
#: The terms of PS3.3 C.12.1.1.2 are nine at most in one attribute; more are nonsense.
_MAX_TERMS: Final = 16

_ESC: Final = b"\x1b"
_PADDING: Final = " \0"
_ASCII: Final = "ascii"
#: What bytes beyond ASCII mean where no character set was declared; many devices do so.
_UNDECLARED: Final = "latin-1"
_STAND_ALONE: Final = frozenset(["ISO_IR 192", "GB18030", "GBK"])
#: Python reads and writes the escape sequences of these itself.
_ESCAPING_CODECS: Final = frozenset(["iso2022_jp", "iso2022_jp_2"])
_JIS_X_0201: Final = "shift_jis"
_TO_ASCII: Final = b"\x1b(B"
_TO_JIS_ROMAJI: Final = b"\x1b(J"

#: Codec → escape sequence that designates its set as G1 (PS3.3 Tables C.12-3, C.12-4).
_DESIGNATIONS: Final = {
    codec: escape for escape, codec in ESCAPE_SEQUENCES.items() if escape[1:2] in b"-)$"
}
#: What an encoder of `_ESCAPING_CODECS` may switch to for its term, apart from ASCII.
_ALLOWED_ESCAPES: Final = {"iso2022_jp": {b"\x1b$B"}, "iso2022_jp_2": {b"\x1b$(D"}}
_ESCAPE: Final = re.compile(rb"\x1b[ -/]+[0-~]")

#: Where the initial state is back (PS3.5 6.1.2.5.3).
_DELIMITERS: Final = re.compile(rb"[\t\n\f\r\\]")
_NAME_DELIMITERS: Final = re.compile(rb"[\t\n\f\r\\^=]")
_TEXT_DELIMITERS: Final = re.compile(r"([\t\n\f\r\\])")
_NAME_TEXT_DELIMITERS: Final = re.compile(r"([\t\n\f\r\\^=])")


class CharacterSetError(IsocenterError, ValueError):
    """The text has a character that the character set has not; the message does not show it."""

    error_code = ErrorCode.ELEMENT_CONVERSION


@dataclass(frozen=True, slots=True)
class _Codecs:
    """The Python codecs of a Specific Character Set: value 1, and its code extensions."""

    initial: str
    extensions: tuple[str, ...] = ()


@lru_cache(maxsize=256)
def _codecs_of(character_set: tuple[str, ...]) -> _Codecs:
    if not character_set:
        return _Codecs(_ASCII)
    codecs = [_codec_of(term) for term in character_set]
    if character_set[0] in _STAND_ALONE:
        return _Codecs(codecs[0])
    return _Codecs(
        codecs[0],
        tuple(
            codec
            for term, codec in zip(character_set[1:], codecs[1:], strict=True)
            if term not in _STAND_ALONE and codec != _ASCII
        ),
    )


def _codec_of(term: str) -> str:
    if term in _DEFAULT_REPERTOIRE:
        return _ASCII
    return TERMS.get(term, _ASCII)


_DEFAULT_REPERTOIRE: Final = frozenset({"", "ISO_IR 6", "ISO 2022 IR 6"})
#: Signs that people write between the parts of a term.
_GAP: Final = "[ _.-]*"
_MISSPELLED: Final = re.compile(f"(?:ISO{_GAP})?(2022)?{_GAP}IR{_GAP}([0-9]+)", re.ASCII)
_ISO_8859: Final = re.compile(f"(?:ISO{_GAP})?8859{_GAP}([0-9]+)", re.ASCII)
#: Part of ISO 8859 → the number of its right half in the registry (PS3.3 Table C.12-2).
_PARTS_OF_ISO_8859: Final = {
    "1": "100", "2": "101", "3": "109", "4": "110", "5": "144", "6": "127", "7": "126",
    "8": "138", "9": "148", "11": "166", "15": "203",
}  # fmt: skip
#: Other names of what has a term, without the signs between their parts.
_OTHER_NAMES: Final = {
    "UTF8": "ISO_IR 192", "UNICODE": "ISO_IR 192", "ISO10646": "ISO_IR 192",
    "UNICODE11UTF8": "ISO_IR 192", "LATIN1": "ISO_IR 100", "LATIN2": "ISO_IR 101",
    "CYRILLIC": "ISO_IR 144", "GB18030": "GB18030", "GBK": "GBK", "GB2312": "GBK",
    "ASCII": "ISO_IR 6", "USASCII": "ISO_IR 6", "SHIFTJIS": "ISO_IR 13", "SJIS": "ISO_IR 13",
}  # fmt: skip


def character_set_of(raw: bytes | None, undeclared: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The terms of a Specific Character Set (0008,0005) value, usual misspellings corrected.

    Empty for the default repertoire.  A first term that nobody knows is as good as none; others
    that nobody knows are left out.

    Args:
        undeclared: what counts where there are no terms but those of the default repertoire.
    """
    declared = _character_set_of(bytes(raw[:1024])) if raw else ()
    return declared or undeclared


@lru_cache(maxsize=256)
def _character_set_of(raw: bytes) -> tuple[str, ...]:
    values = raw.decode("latin-1").split("\\")[:_MAX_TERMS]
    first, *others = [_term_of(value.strip(_PADDING)) for value in values]
    if first is None:
        return ()
    terms = (first, *[term for term in others if term])
    return () if _DEFAULT_REPERTOIRE.issuperset(terms) else terms


def _term_of(value: str) -> str | None:
    """The defined term that is meant; None: there is none."""
    if not value or value in TERMS:
        return value
    text = value.upper()
    term: str | None
    if (match := _MISSPELLED.fullmatch(text)) is not None:
        term = f"{'ISO 2022 IR' if match[1] else 'ISO_IR'} {match[2]}"
    elif (match := _ISO_8859.fullmatch(text)) is not None:
        term = f"ISO_IR {_PARTS_OF_ISO_8859.get(match[1], '')}"
    else:
        term = _OTHER_NAMES.get(re.sub(_GAP, "", text))
    return term if term in TERMS else None


def has_unknown_terms(raw: bytes) -> bool:
    """Whether a Specific Character Set (0008,0005) value names what nobody knows, so that text is
    read without it."""
    values = raw[:1024].decode("latin-1").split("\\")
    return any(_term_of(value.strip(_PADDING)) is None for value in values)


def is_character_set(text: str) -> bool:
    """Whether *text* is a Specific Character Set: terms that are known, joined by backslashes."""
    values = text.split("\\")
    return len(values) <= _MAX_TERMS and all(
        _term_of(value.strip(_PADDING)) is not None for value in values
    )


def decode_text(raw: bytes, vr: str, character_set: tuple[str, ...] = ()) -> str:
    """The text of a value of any text VR, without padding; several values joined by a backslash."""
    return strip_padding(decode_padded(raw, vr, character_set), vr)


def decode_padded(raw: bytes, vr: str, character_set: tuple[str, ...] = ()) -> str:
    """The same with its padding: all that is there."""
    if raw.isascii() and _ESC not in raw:
        return raw.decode("ascii")
    if vr in CHARACTER_SET_VRS:
        return _decode(raw, vr, _codecs_of(character_set))
    return raw.decode(_UNDECLARED)


def strip_padding(text: str, vr: str) -> str:
    """*text* without what does not count around each of its values (PS3.5 6.2)."""
    if vr in _FREE_TEXT_VRS:
        return text.rstrip(_PADDING)
    if "\\" in text:
        text = "\\".join([value.strip(_PADDING) for value in text.split("\\")])
        # Values without any content are no values.
        return text if text.strip("\\") else ""
    return text.strip(_PADDING)


def _decode(raw: bytes, vr: str, codecs: _Codecs) -> str:
    initial = _UNDECLARED if codecs.initial == _ASCII else codecs.initial
    if _ESC not in raw:
        return raw.decode(initial, "replace")
    head, *fragments = raw.split(_ESC)
    delimiters = _NAME_DELIMITERS if vr == "PN" else _DELIMITERS
    return head.decode(initial, "replace") + "".join(
        [_decode_escaped(_ESC + fragment, codecs, initial, delimiters) for fragment in fragments]
    )


def _decode_escaped(
    fragment: bytes, codecs: _Codecs, initial: str, delimiters: re.Pattern[bytes]
) -> str:
    """The text of *fragment*, which begins with the only escape sequence in it."""
    escape = _ESCAPE.match(fragment)
    codec = None if escape is None else ESCAPE_SEQUENCES.get(escape[0])
    if escape is None:
        return fragment[len(_ESC) :].decode(initial, "replace")
    rest = fragment[escape.end() :]
    if codec is None or escape[0] == _TO_ASCII:
        return rest.decode(initial, "replace")
    if codec in _ESCAPING_CODECS:
        # Bytes beyond ASCII are in G1 still, which this sequence did not change.
        return fragment.decode(codec, "replace")
    if codecs.initial != _ASCII:
        delimiter = delimiters.search(rest)
        if delimiter is not None:
            end = delimiter.start()
            return rest[:end].decode(codec, "replace") + rest[end:].decode(initial, "replace")
    # ASCII has nothing beyond ASCII: what follows a delimiter without a new escape sequence
    # can only be meant in the set that was designated (some modalities forget to repeat it).
    return rest.decode(codec, "replace")


def encode_text(text: str, vr: str, character_set: tuple[str, ...] = ()) -> bytes:
    """The bytes of a value, unpadded.

    Raises:
        CharacterSetError: *character_set* cannot represent it, or the VR allows only ASCII.
    """
    if text.isascii():
        return text.encode("ascii")
    if vr not in CHARACTER_SET_VRS:
        raise CharacterSetError(f"a {vr} has characters of the default repertoire only")
    codecs = _codecs_of(character_set)
    try:
        return _encode_whole(text, codecs.initial)
    except UnicodeError as error:
        if not codecs.extensions:
            raise _impossible(character_set) from error
    delimiters = _NAME_TEXT_DELIMITERS if vr == "PN" else _TEXT_DELIMITERS
    try:
        return b"".join([_encode_part(part, codecs) for part in delimiters.split(text)])
    except UnicodeError as error:
        raise _impossible(character_set) from error


def _impossible(character_set: Sequence[str]) -> CharacterSetError:
    name = "\\".join(character_set) or "the default repertoire"
    return CharacterSetError(f"a character is not in {name}")


def _encode_whole(text: str, codec: str) -> bytes:
    encoded = text.encode(codec)
    if codec == _JIS_X_0201 and len(encoded) != len(text):
        raise UnicodeError("JIS X 0201 has single bytes only")
    return encoded


def _encode_part(part: str, codecs: _Codecs) -> bytes:
    """Text between two delimiters: begins and ends in the initial state."""
    if part.isascii():
        return part.encode("ascii")
    pieces: list[bytes] = []
    designated = codecs.initial  # as G1
    for codec, run in _runs(part, codecs):
        encoded = _encode_whole(run, codec)
        if codec in _ESCAPING_CODECS:
            if codecs.initial == _JIS_X_0201 and encoded.endswith(_TO_ASCII):
                encoded = encoded[: -len(_TO_ASCII)] + _TO_JIS_ROMAJI
        elif codec != designated and not encoded.isascii():
            designated = codec
            pieces.append(_DESIGNATIONS.get(codec, b""))
        pieces.append(encoded)
    return b"".join(pieces)


def _runs(part: str, codecs: _Codecs) -> Iterator[tuple[str, str]]:
    """*part* in pieces, each with the codec for all of it."""
    run = ""
    current = codecs.initial
    for character in part:
        codec = _codec_for(character, current, codecs)
        if codec != current:
            if run:
                yield current, run
            run, current = "", codec
        run += character
    if run:
        yield current, run


def _codec_for(character: str, current: str, codecs: _Codecs) -> str:
    """The first codec, beginning with the one in use, that has *character*."""
    for codec in (current, codecs.initial, *codecs.extensions):
        try:
            encoded = _encode_whole(character, codec)
        except UnicodeError:
            continue
        if codec not in _ESCAPING_CODECS or character.isascii():
            return codec
        if set(_ESCAPE.findall(encoded)) - {_TO_ASCII} == _ALLOWED_ESCAPES[codec]:
            return codec
    raise UnicodeError("no code extension has this character")


def choose_character_set(texts: Iterable[str], preferred: tuple[str, ...] = ()) -> tuple[str, ...]:
    """A Specific Character Set for all of *texts*.

    The default repertoire when it suffices, else *preferred*, else UTF-8.
    """
    beyond = [text for text in texts if not text.isascii()]
    if not beyond:
        return ()
    if preferred:
        try:
            for text in beyond:
                encode_text(text, "PN", preferred)
        except CharacterSetError:
            return UTF_8
        return preferred
    return UTF_8


_NUMBER_CODES: Final = {
    "US": "H",
    "SS": "h",
    "UL": "I",
    "SL": "i",
    "UV": "Q",
    "SV": "q",
    "FL": "f",
    "FD": "d",
}
_LITTLE_NUMBERS: Final = {vr: Struct("<" + code) for vr, code in _NUMBER_CODES.items()}
_BIG_NUMBERS: Final = {vr: Struct(">" + code) for vr, code in _NUMBER_CODES.items()}

#: VRs that `decode_numbers` and `encode_numbers` know.
NUMBER_VRS: Final = frozenset(_NUMBER_CODES)


def decode_numbers(raw: bytes, vr: str, *, big_endian: bool) -> str:
    """Binary numbers as decimal text; bytes left over are ignored."""
    number = (_BIG_NUMBERS if big_endian else _LITTLE_NUMBERS)[vr]
    if len(raw) == number.size:
        return str(number.unpack(raw)[0])
    whole = len(raw) - len(raw) % number.size
    return "\\".join([str(value) for (value,) in number.iter_unpack(raw[:whole])])


def encode_numbers(text: str, vr: str, *, big_endian: bool) -> bytes:
    """Decimal text as binary numbers.

    Raises:
        ValueError: it is no number, or one that the VR cannot hold.
    """
    number = (_BIG_NUMBERS if big_endian else _LITTLE_NUMBERS)[vr]
    kind = float if vr in ("FL", "FD") else int
    values = [kind(value) for value in text.split("\\") if value.strip(_PADDING)]
    try:
        return b"".join([number.pack(value) for value in values])
    except (struct.error, OverflowError) as error:
        raise ValueError(f"a {vr} cannot hold this number") from error
