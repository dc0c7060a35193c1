"""Words of person names and how they sound, for fuzzy matching (PS3.4 C.2.2.2.1.1).

A name is taken apart at everything that is neither letter nor digit, an apostrophe excepted, so
that components, groups and hyphens all end a word.  Words are compared without case, accents and
the other marks that scribes leave out (ø is o, ł is l, ß is ss).

Words of Latin letters alone are also compared by their sound, in the Kölner Phonetik (H. J. Postel,
1969), which knows more than the first four consonants: a digit for each class of consonants that
sound alike, none for vowels but at the beginning.  Müller, Mueller and Miller are 657, Schmidt and
Schmitt 862, Philipp and Filip 351.  Words of one letter (initials), of digits, and of other scripts
are compared as they are.

Each word that is asked for has to be found, in whatever place of the name.  Wild cards end no word:
what stands beside them is the beginning, the end or a part of one, and is compared by its letters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

from isocenter.engine.fast_init import dataclass

#: Words of a name that count; those of three component groups are fewer.
MAX_WORDS: Final = 32
#: Characters of a word that count.
MAX_WORD_LENGTH: Final = 64
_KEPT: Final = 4096

#: Letters that Unicode does not take apart into a letter and a mark.
_LETTERS: Final = str.maketrans(
    {
        "ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th",
        "ħ": "h", "ı": "i", "ŋ": "n", "ŧ": "t", "ŀ": "l", "ĸ": "k", "ſ": "s",
    }
)  # fmt: skip
#: Part of a word, and left out: O'Brien and OBrien are the same.
_APOSTROPHES: Final = str.maketrans(dict.fromkeys("'’ʼ`´‘", ""))
_WILD: Final = "*?"
#: Canonical combining classes up to this are parts of a letter (nukta, voicing of kana, virama).
_LETTER_MARKS: Final = 9

_AFTER_C_AT_FIRST: Final = frozenset("ahkloqrux")
_AFTER_C: Final = frozenset("ahkoqux")
_PLAIN: Final = {
    **dict.fromkeys("aeijouy", "0"), "b": "1", **dict.fromkeys("fvw", "3"),
    **dict.fromkeys("gkq", "4"), "l": "5", **dict.fromkeys("mn", "6"), "r": "7",
    **dict.fromkeys("sz", "8"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class WantedWord:
    """A word that a key asks for.

    Attributes:
        text: folded, as `words_of` writes it.
        is_open_before: a wild card stands ahead of it: other letters may come first.
        is_open_after: one stands behind it.
    """

    text: str
    is_open_before: bool = False
    is_open_after: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether it is a word from beginning to end."""
        return not (self.is_open_before or self.is_open_after)

    def is_part_of(self, word: str) -> bool:
        """Whether the letters are those of *word*, as far as the key says them."""
        if self.is_open_before:
            return self.text in word if self.is_open_after else word.endswith(self.text)
        return word.startswith(self.text) if self.is_open_after else word == self.text


def fold(text: str) -> str:
    """*text* without case, accents and other marks."""
    text = text.casefold()
    if text.isascii():
        return text
    text = unicodedata.normalize("NFKD", text)
    text = "".join(c for c in text if unicodedata.combining(c) <= _LETTER_MARKS)
    text = text.translate(_LETTERS)
    return unicodedata.normalize("NFC", text)


@lru_cache(_KEPT)
def words_of(name: str) -> tuple[str, ...]:
    """The words of a name, each once, in their order."""
    return tuple(dict.fromkeys(_split(fold(name))))[:MAX_WORDS]


@lru_cache(_KEPT)
def sounds_of(name: str) -> frozenset[str]:
    """How the words of a name sound, as far as they have a sound."""
    return frozenset(sound for word in words_of(name) if (sound := sound_of(word)))


def wanted_words(key: str) -> tuple[WantedWord, ...]:
    """The words that *key* asks for, which may have wild cards; empty: it has none."""
    wanted: dict[WantedWord, None] = {}
    text = fold(key).translate(_APOSTROPHES)
    pieces = [text]
    for wild in _WILD:
        pieces = [part for piece in pieces for part in piece.split(wild)]
    for number, piece in enumerate(pieces):
        words = list(_split(piece))
        for place, word in enumerate(words):
            first, last = place == 0, place == len(words) - 1
            wanted[
                WantedWord(
                    word,
                    number > 0 and first and piece.startswith(word),
                    number < len(pieces) - 1 and last and piece.endswith(word),
                )
            ] = None
    return tuple(wanted)[:MAX_WORDS]


def has_words(name: str, wanted: Sequence[WantedWord]) -> bool:
    """Whether each of *wanted* is a word of *name*, or sounds like one."""
    words = words_of(name)
    for one in wanted:
        if any(one.is_part_of(word) for word in words):
            continue
        sound = sound_of(one.text) if one.is_whole else ""
        if not sound or sound not in sounds_of(name):
            return False
    return True


@lru_cache(_KEPT)
def sound_of(word: str) -> str:
    """The digits of a folded word in the Kölner Phonetik; empty: it is compared as it is."""
    if len(word) < 2 or not (word.isascii() and word.isalpha()):
        return ""
    digits = list(_digits(word))
    # Of the same one after another the first, of vowels only one at the beginning.
    joined = [d for n, d in enumerate(digits) if not n or d != digits[n - 1]]
    return "".join(d for n, d in enumerate(joined) if d != "0" or not n)


def _digits(word: str) -> Iterator[str]:
    for place, letter in enumerate(word):
        before = word[place - 1] if place else ""
        after = word[place + 1 : place + 2]
        match letter:
            case "h":
                pass
            case "p":
                yield "3" if after == "h" else "1"
            case "d" | "t":
                yield "8" if after and after in "csz" else "2"
            case "c":
                follows = _AFTER_C if place else _AFTER_C_AT_FIRST
                yield "4" if after in follows and not (before and before in "sz") else "8"
            case "x":
                if not (before and before in "ckq"):
                    yield "4"
                yield "8"
            case _:
                yield _PLAIN[letter]


def _split(text: str) -> Iterator[str]:
    word = ""
    for character in text.translate(_APOSTROPHES):
        if character.isalnum():
            word += character
        elif word:
            yield word[:MAX_WORD_LENGTH]
            word = ""
    if word:
        yield word[:MAX_WORD_LENGTH]
