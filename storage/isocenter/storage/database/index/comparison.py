"""Comparison of a value with what is asked, in SQL where it can."""

from __future__ import annotations

import re
from functools import partial
from typing import Final, assert_never

from isocenter.services.archive.index import matching
from isocenter.services.archive.index.attributes import Attribute
from isocenter.services.archive.index.query import (
    EmptyValue,
    Match,
    NameMatch,
    Range,
    SequenceMatch,
    SingleValue,
    ValueList,
    WildCard,
)
from isocenter.storage.database.database import Candidates
from isocenter.storage.database.dialect import TEXTS, json_list, matches_pattern
from isocenter.storage.database.index.columns import (
    EARLIEST_TIME,
    MULTIPLE_GROUPS_PREFIX,
    has_fast_text,
    key_column,
)
from isocenter.storage.database.index.fragment import Sql, bound, join, reference
from isocenter.storage.database.text import replace_surrogates

#: GLOB backtracks: with n stars it may take length^n steps.  Up to here it is harmless and
#: faster than calling Python; beyond, `matching.wildcard_match` answers in bounded time.
MAX_GLOB_STARS: Final = 2

#: The highest code point: no text with a prefix sorts after the prefix and this.
LAST_CHARACTER: Final = "\U0010ffff"


def compared(table: str, attribute: Attribute) -> str:
    """SQL for the value of *attribute* as it is compared, in a regular row."""
    if attribute.vr == "PN":
        return f"{table}.{key_column(attribute)}"
    column = f'{table}."{attribute.column}"'
    if attribute.vr == "TM":
        # As `matching.normalize` completes a time; no value stays none.
        missing = f"substr('{EARLIEST_TIME}', length({column}) + 1)"
        return f"CASE {column} WHEN '' THEN '' ELSE {column} || {missing} END"
    return column


def slow(attribute: Attribute, match: Match, column: str, table: str, condition: str = "") -> Sql:
    """What the reference matcher says of *column*.

    Args:
        table: where it is.
        condition: of the rows that it is asked about.
    """
    matcher = partial(matching.matches_text, attribute.vr, match)
    return reference(matcher, Candidates((column,), table, condition))


def fast(table: str, attribute: Attribute, match: Match) -> Sql | None:
    """The same for a regular row, in SQL alone; None: only the reference matcher knows."""
    vr = attribute.vr
    if not has_fast_text(attribute):
        return None
    column = compared(table, attribute)
    match match:
        case EmptyValue():
            return Sql(f"{column} = ''")
        case SingleValue(value):
            if vr == "PN" and "=" in value:
                return None
            key = matching.normalize(vr, value)
            return bound(f"{column} = ?", key) if key else None
        case ValueList(values):
            keys = [key for value in values if (key := matching.normalize(vr, value))]
            if vr == "PN" and any("=" in key for key in keys):
                return None
            return bound(
                f"{column} IN {TEXTS}", json_list([replace_surrogates(key) for key in keys])
            )
        case WildCard(pattern):
            if vr not in matching.WILD_CARD_VRS or (vr == "PN" and "=" in pattern):
                return None
            return _glob(attribute, column, matching.normalize(vr, pattern))
        case Range():
            if vr not in matching.RANGE_VRS:
                return None
            return between(column, *matching.range_bounds(vr, match))
        case SequenceMatch() | NameMatch():
            return None
        case _:
            assert_never(match)


def _glob(attribute: Attribute, column: str, pattern: str) -> Sql | None:
    if pattern.count("*") > MAX_GLOB_STARS or "\0" in pattern:
        return None
    prefix = re.split(r"[*?]", pattern, maxsplit=1)[0]
    if prefix:
        bounds = bound(f"{column} >= ? AND {column} < ?", prefix, prefix + LAST_CHARACTER)
    else:
        # No value matches nothing, not even `**`.
        bounds = Sql(f"{column} <> ''")
        if attribute.vr == "PN":
            bounds += f" AND substr({column}, 1, 1) <> '{MULTIPLE_GROUPS_PREFIX}'"
    return (
        "(" + bounds + " AND " + bound(matches_pattern(column), pattern.replace("[", "[[]")) + ")"
    )


def between(column: str, low: str | None, high: str | None) -> Sql:
    """SQL: the value of *column* lies between the bounds, of which None is open."""
    # No value is in no range, and '' sorts before every date and time.
    terms = [bound(f"{column} >= ?", low) if low else Sql(f"{column} > ''")]
    if high is not None:
        terms.append(bound(f"{column} <= ?", high))
    return "(" + join(" AND ", terms) + ")"
