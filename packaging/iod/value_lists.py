"""Enumerated values and defined terms in the descriptions of PS3.3."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from condition_sentences import Names, condition_of, plain_text

#: Kind (E: enumerated, D: defined terms), number of the value (0: every one), the values, and
#: when the list counts (None: always).
ValueList = tuple[str, int, tuple[str, ...], Any]

_HEAD = re.compile(
    r"<strong>\s*(?P<kind>Enumerated Values?|Defined Terms?)(?P<rest>[^<]*)</strong>"
    r"(?P<between>(?:(?!<strong>|<dl).)*)<dl[^>]*>(?P<list>.*?)</dl>",
    re.DOTALL,
)
_TERM = re.compile(r"<dt>(.*?)</dt>", re.DOTALL)
_NUMBER = re.compile(r"^ (?:for|of) [Vv]alue (\d):?$")
_WHEN = re.compile(r"^ (?:if|when) (.+?):?$")


#: There are more values than those that stand here.
_ELSEWHERE = re.compile(
    r"for (?:the )?(?:additional |further |other )?(?:Defined Terms|Enumerated Values|specialization)"
    r"|(?:Defined Terms|Enumerated Values) (?:are )?(?:specified|defined|listed) in"
    r"|may be extended|additional (?:Defined Terms|Enumerated Values)"
)


def value_lists(markup: str, names: Names) -> tuple[list[ValueList], int]:
    """The lists of a description, and how many were not understood."""
    found: list[ValueList] = []
    unknown = 0
    if _ELSEWHERE.search(plain_text(markup)):
        return [], len(_HEAD.findall(markup))
    for match in _HEAD.finditer(markup):
        kind = "E" if match["kind"].startswith("Enum") else "D"
        values = tuple(dict.fromkeys(_values(match["list"])))
        rest = plain_text(match["rest"])
        rest = f" {rest}" if rest and not rest.startswith(":") else rest
        number, when = 0, None
        if numbered := _NUMBER.match(rest):
            number = int(numbered[1])
        elif conditional := _WHEN.match(rest):
            when = condition_of(f"Required if {conditional[1]}.", names).required
            if when is None:
                unknown += 1
                continue
        elif rest.strip(": "):
            unknown += 1
            continue
        if not values or any(len(value) > 64 for value in values):
            unknown += 1
            continue
        found.append((kind, number, values, when))
    heads = [(kind, number) for kind, number, _, when in found if when is None]
    # Two lists of one kind for one value: for people and for animals, say.  Both together.
    if len(set(heads)) != len(heads):
        found = _united(found)
    return found, unknown


def _united(lists: list[ValueList]) -> list[ValueList]:
    united: dict[tuple[str, int, str], ValueList] = {}
    for kind, number, values, when in lists:
        key = (kind, number, repr(when))
        before = united.get(key)
        united[key] = (kind, number, (*(before[2] if before else ()), *values), when)
    return list(united.values())


def _values(markup: str) -> Iterator[str]:
    for term in _TERM.findall(markup):
        # "0001H" of binary values, "YES", "1.2.840.…"
        text = plain_text(term)
        if hexadecimal := re.fullmatch(r"([0-9A-F]{4})H", text):
            yield str(int(hexadecimal[1], 16))
        elif tag := re.fullmatch(r"([0-9A-F]{8})H", text):
            yield tag[1]
        elif text:
            yield text.strip('"“”')


_TITLE = re.compile(r"<h\d>\s*(.*?)\s*</h\d>", re.DOTALL)


def section_lists(markup: str, name: str, names: Names) -> list[ValueList]:
    """The lists of a section that is about the attribute *name* alone."""
    title = _TITLE.search(markup)
    if title is None:
        return []
    words = plain_text(title[1]).split(" ", 1)
    if len(words) < 2 or words[1].lower() not in (name.lower(), f"{name.lower()} attribute"):
        return []
    # Sections say more than one thing; only where each list tells which value it is for.
    lists, unknown = value_lists(markup, names)
    if unknown or any(when is not None for *_, when in lists):
        return []
    # A section with several lists, of which none says its value, is about its parts.
    if len(re.findall("<dl", markup)) != len(lists) or (
        len(re.findall("<dl", markup)) > 1 and any(not number for _, number, *_ in lists)
    ):
        return []
    return lists
