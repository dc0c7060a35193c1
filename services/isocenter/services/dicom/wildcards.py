"""Wild card matching in bounded time (PS3.4 C.2.2.2.4)."""

from __future__ import annotations


def wildcard_match(pattern: str, text: str) -> bool:
    """Whether *text* as a whole fits *pattern*: ``*`` any characters, ``?`` exactly one.

    Takes time in proportion to ``len(pattern) * len(text)`` at the worst, and to their
    sum in practice: only the last ``*`` is ever tried again.
    """
    position = mark = 0
    here = 0
    star = -1
    end = len(pattern)
    length = len(text)
    while position < length:
        # `*` first: a text may hold that character too.
        if here < end and pattern[here] == "*":
            star = here
            mark = position
            here += 1
        elif here < end and pattern[here] in ("?", text[position]):
            here += 1
            position += 1
        elif star >= 0:
            mark += 1
            position = mark
            here = star + 1
        else:
            return False
    while here < end and pattern[here] == "*":
        here += 1
    return here == end
