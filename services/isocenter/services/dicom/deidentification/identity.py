"""Words of one patient, and where a text says them.

A text is compared without regard to case, accents and the way in which umlauts are written; each
part of a name counts for itself, so any order of them is found.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Final

#: Elements of a data set with names of persons.
NAMES: Final = frozenset(
    (
        0x00080090, 0x0008009C, 0x00081048, 0x00081050, 0x00081060, 0x00081070, 0x00100010,
        0x00101001, 0x00101005, 0x00101060, 0x00102297, 0x00321032, 0x00400006, 0x0040A123,
        0x0040A075, 0x00702084, 0x00700084, 0x00081052, 0x00402008, 0x00404037, 0x00100012,
    )
)  # fmt: skip
#: Elements with one value that stands for somebody: numbers, places, addresses.
IDENTIFIERS: Final = frozenset(
    (
        0x00080050, 0x00100020, 0x00101000, 0x00101040, 0x00101050, 0x00101090, 0x00102154,
        0x00102155, 0x00080092, 0x00080094, 0x00380010, 0x00402016, 0x00402017, 0x00401001,
        0x00400253, 0x00200010, 0x00120040, 0x00102299,
    )
)  # fmt: skip
#: Of the institution; identifying unless they are retained.
PLACES: Final = frozenset((0x00080080, 0x00080081, 0x00081040, 0x00120031))
#: Code strings whose terms say what an object is, and are words of nobody: without them no reader
#: could make sense of it.
TERMS: Final = frozenset(
    (
        0x00080005, 0x00080008, 0x00080060, 0x00080061, 0x00080064, 0x00180020, 0x00180021,
        0x00180022, 0x00185100, 0x00200060, 0x00280004, 0x00280301, 0x00280302, 0x00280303,
        0x00281054, 0x00282110, 0x00282114, 0x00120062, 0x0040A010, 0x0040A040, 0x0040A050,
        0x0040A491, 0x0040A493, 0x0040A0B0, 0x0040DB00, 0x00700005, 0x00700023, 0x00620001,
        0x00089205, 0x00089206, 0x00089207, 0x00089208, 0x00089209, 0x003A0205, 0x30060042,
    )
)  # fmt: skip
BIRTH_DATE: Final = 0x00100030
WORDS_FROM: Final = NAMES | IDENTIFIERS | PLACES | {BIRTH_DATE}

#: What stands in the place of a word.
REMOVED: Final = ""
_SHORTEST_IDENTIFIER: Final = 4
_SHORTEST_WORD: Final = 2
_SHORTEST_IN_BYTES: Final = 3
#: Parts of names that are words of reports, too, or stand for nobody.
_COMMON: Final = frozenset(
    """an and anon anonymous anonymized ap at by ct da de del der des di do dr el for he in is it jr
    la le left lt md mg ml mm mr mrs ms na no not none nm of on or pa patient phd pt prof right rt
    sir sr ss st test the to uk unknown us van von we xx""".split()  # noqa: SIM905 - it reads better
)
_PARTS: Final = re.compile(r"[\^=\\\s,;/.()\"]+")
_WORDS: Final = re.compile(r"[^\W_]+")
_UMLAUTS: Final = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa", "æ": "ae"})
_BARE: Final = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "æ": "a", "ı": "i"})

#: What looks as if it named somebody, in descriptions (PS3.15 E.3.5).
_SUSPECT: Final = re.compile(
    r"""
    [\w.+-]+@[\w-]+\.[\w.-]+                                  # mail
    | \bhttps?://\S+
    | \b(?:dr|prof|mr|mrs|ms|miss|herr|frau|mme|doctor)\b\.?\s+[^\W\d]+(?:[-'’\s][^\W\d_]+)?
    | \b\d{1,4}[-./]\d{1,2}[-./]\d{2,4}\b                     # dates
    | \b(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\b
    | \b\d{1,2}[\s.-]?(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[\s.,-]*\d{2,4}\b
    | \b\d{1,3}\s?-?\s?(?:y/?o|yrs?|years?|jahre?)\b(?:[\s-]*old)?
    | \b\d{1,3}\s?(?:[fFmM]|[yY])\b
    | \+?\d[\d\s()/-]{6,}\d                                   # telephone
    | \b(?=[A-Za-z]*\d)[A-Za-z]{0,3}\d{5,}\b                  # numbers of somebody
    """,
    re.VERBOSE | re.IGNORECASE,
)
#: A UID within a text.
_UID: Final = re.compile(r"(?<![\d.])[0-2](?:\.(?:0|[1-9]\d*)){4,}(?![\d.])")
_SPACES: Final = re.compile(r"[ \t]{2,}")


class Identity:
    """The words of one patient.

    Args:
        names: of persons, as PN has them.
        identifiers: numbers, addresses, places: found as a whole.
        birth_dates: as DA has them; found in the ways in which people write dates.
    """

    def __init__(
        self,
        names: Iterable[str] = (),
        identifiers: Iterable[str] = (),
        birth_dates: Iterable[str] = (),
    ) -> None:
        words: set[str] = set()
        phrases: set[str] = set()
        for name in names:
            for part in _PARTS.split(name):
                words.update(_forms_of(part))
        for value in identifiers:
            for each in value.split("\\"):
                text = fold(each.strip(" \0"))
                is_long = len(text) >= _SHORTEST_IDENTIFIER and text not in _COMMON
                if is_long and any(map(str.isalnum, text)):
                    phrases.add(text)
        for value in birth_dates:
            phrases.update(_dates_of(value))
        self._words = frozenset(words)
        self._phrases = frozenset(phrases)
        self._pattern = _pattern(self._words, self._phrases)

    def __bool__(self) -> bool:
        return self._pattern is not None

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        """Where *text* says one of the words."""
        if self._pattern is None or not text:
            return
        if text.isascii():
            for match in self._pattern.finditer(text.lower()):
                yield match.span()
            return
        folded, places = _folded_with_places(text)
        for match in self._pattern.finditer(folded):
            yield places[match.start()], places[match.end() - 1] + 1

    def is_in(self, text: str) -> bool:
        """Whether *text* says one of the words."""
        return next(self.find(text), None) is not None

    def is_in_bytes(self, raw: bytes, codecs: Iterable[str]) -> bool:
        """Whether bytes say one of the words, read as text in one of *codecs*.

        A word of two or three letters counts only in what is text as a whole: samples of a
        waveform, or of a table, have one by chance.
        """
        for codec in codecs:
            text = raw.decode(codec, "replace")
            is_text: bool | None = None
            for start, end in self.find(text):
                if len(text[start:end].encode("utf-8", "replace")) > _SHORTEST_IN_BYTES:
                    return True
                if is_text is None:
                    is_text = text.strip(" \0\r\n").replace("\n", " ").isprintable()
                if is_text:
                    return True
        return False

    def cleaned(self, text: str) -> str:
        """*text* without the words."""
        spans = list(self.find(text))
        if not spans:
            return text
        pieces, at = [], 0
        for start, end in spans:
            pieces.append(text[at:start])
            at = max(at, end)
        return _SPACES.sub(" ", REMOVED.join([*pieces, text[at:]]))


def fold(text: str) -> str:
    """*text* as it is compared."""
    if text.isascii():
        return text.lower()
    return _folded_with_places(text)[0]


def without_suspects(text: str) -> str:
    """A description without what looks as if it named somebody: titles with names, dates, ages,
    telephone numbers, long numbers, addresses of mail."""
    return _SPACES.sub(" ", _SUSPECT.sub(REMOVED, text)).strip(" ,;:-/")


def with_other_uids(text: str, replaced: Callable[[str], str]) -> str:
    """*text* with other UIDs in the place of those that it mentions."""
    if text.count(".") < 4:
        return text
    return _UID.sub(lambda match: replaced(match[0]), text)


def uids_in(text: str) -> list[str]:
    """The UIDs that a text mentions."""
    return _UID.findall(text) if text.count(".") >= 4 else []


def _forms_of(part: str) -> Iterator[str]:
    """How one part of a name may be written, folded."""
    part = part.strip("'-’`\"0123456789")
    text = part.casefold()
    forms = {fold(text), fold(text.translate(_UMLAUTS))}
    for letters, sign in (("ae", "a"), ("oe", "o"), ("ue", "u")):
        if letters in text:
            forms.add(fold(text.replace(letters, sign)))
    for form in forms:
        if len(form) >= _SHORTEST_WORD and form not in _COMMON:
            yield form


def _dates_of(value: str) -> Iterator[str]:
    digits = value.replace(".", "").strip(" \0")
    if len(digits) != 8 or not digits.isdigit():
        return
    year, month, day = digits[:4], digits[4:6], digits[6:]
    yield digits
    for sign in "-./":
        yield sign.join((year, month, day))
        yield sign.join((day, month, year))
        yield sign.join((month, day, year))
        yield sign.join((day.lstrip("0"), month.lstrip("0"), year))
        yield sign.join((month.lstrip("0"), day.lstrip("0"), year))
    yield day + month + year
    yield month + day + year


@lru_cache(maxsize=64)
def _pattern(words: frozenset[str], phrases: frozenset[str]) -> re.Pattern[str] | None:
    # The longest first, so that a phrase goes as a whole.
    bordered, others = list[str](), list[str]()
    for text in sorted(words | phrases, key=lambda each: (-len(each), each)):
        # Scripts without spaces between words have no borders of words.
        is_spaced = text.isascii() or all("\u00c0" <= sign <= "\u058f" for sign in text)
        # Numbers of people are written with other signs between their parts, and with none.
        escaped = r"[\W_]{0,2}".join(re.escape(part) for part in _WORDS.findall(text))
        if escaped:  # of nothing but signs, as in a name that is "??", there is nothing to find
            (bordered if is_spaced else others).append(escaped)
    # The borders once for all: at most places of a text no word has to be tried.
    alternatives = [rf"(?<![^\W_])(?:{'|'.join(bordered)})(?![^\W_])"] if bordered else []
    return re.compile("|".join(alternatives + others)) if bordered or others else None


def _folded_with_places(text: str) -> tuple[str, list[int]]:
    """*text* as it is compared, and of each of its characters where in *text* it comes from."""
    signs: list[str] = []
    places: list[int] = []
    for place, sign in enumerate(text):
        if sign.isascii():
            plain = sign.lower()
        else:
            decomposed = unicodedata.normalize("NFKD", sign.casefold().translate(_BARE))
            plain = "".join(each for each in decomposed if not unicodedata.combining(each))
        signs.append(plain)
        places += [place] * len(plain)
    return "".join(signs), places
