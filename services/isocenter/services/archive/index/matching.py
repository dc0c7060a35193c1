"""Reference matcher: the meaning of queries, in plain Python (PS3.4 C.2.2.2).

This is the reference: an index adapter may answer faster, never differently.  It
compares text as `InstanceRecord.attributes` holds it (decoded, several values joined
by a backslash), one attribute at a time; which attribute of which entity is the
index's business.

What holds for every kind of matching:

* One of several values of an attribute suffices.
* An attribute that is missing or has no value is matched by nothing but `EmptyValue`.
  (Universal matching is the absence of a criterion.)
* Both sides are compared as `normalize` writes them.

Standard: PS3.4 C.2.2.2, PS3.5 6.2.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date as calendar_date
from datetime import timedelta
from typing import Final, assert_never

import orjson

from isocenter.services.archive.index import date_times
from isocenter.services.archive.index.attributes import BY_TAG, REQUEST_ATTRIBUTES
from isocenter.services.archive.index.names import fold, has_words, wanted_words
from isocenter.services.archive.index.query import (
    CombinedRange,
    Criterion,
    EmptyValue,
    Match,
    NameComparison,
    NameMatch,
    Range,
    SequenceMatch,
    SingleValue,
    ValueList,
    WildCard,
    ZonedKeys,
)
from isocenter.services.dicom.wildcards import wildcard_match

#: VRs whose keys may hold ``*`` and ``?`` (PS3.4 C.2.2.2.4 names the ones that may not).
WILD_CARD_VRS: Final = frozenset(["AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"])
#: VRs of the index with range matching (PS3.4 C.2.2.2.5); it has no attribute of VR DT.
RANGE_VRS: Final = frozenset(("DA", "TM"))
#: VRs in which a backslash is no delimiter of values (PS3.5 6.2), or that are no text at all.
SINGLE_VALUED_VRS: Final = frozenset(["LT", "ST", "UT", "UR", "SQ"])
#: Leading spaces count in these, trailing ones do not (PS3.5 6.2).
_LEADING_SPACES_COUNT: Final = frozenset(["LT", "ST", "UC", "UR", "UT"])
_INTEGER_VRS: Final = frozenset(["IS", "US", "SS", "UL", "SL", "UV", "SV"])
_DECIMAL_VRS: Final = frozenset(["DS", "FL", "FD"])

#: Pads values to even length.
PADDING: Final = " \0"
#: The longest text that is taken for a number; an IS has 12 characters, a DS 16.
_NUMBER_LENGTH: Final = 32
_INTEGER: Final = re.compile(r"[+-]?[0-9]+", re.ASCII)
_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
#: PS3.5 Table 6.2-1; the form with dots is that of ACR-NEMA.
_DATE: Final = re.compile(r"([0-9]{4})(\.?)([0-9]{2})\2([0-9]{2})", re.ASCII)
_TIME: Final = re.compile(
    r"([0-9]{2})(?::?([0-9]{2})(?::?([0-9]{2})(?:\.([0-9]{1,6}))?)?)?", re.ASCII
)
#: As `normalize` writes them.
_CANONICAL_DATE: Final = re.compile(r"[0-9]{8}", re.ASCII)
_CANONICAL_TIME: Final = re.compile(r"[0-9]{6}\.[0-9]{6}", re.ASCII)
_DATE_LENGTH: Final = len("YYYYMMDD")
_DAY_BEGINS: Final = "000000.000000"
_DAY_ENDS: Final = "235959.999999"


def split_values(vr: str, text: str) -> Sequence[str]:
    """The values of an attribute's text, as they stand; one empty value when it has none."""
    if "\\" in text and vr not in SINGLE_VALUED_VRS:
        return text.split("\\")
    return (text,)


def normalize(vr: str, value: str, *, fold_accents: bool = False) -> str:
    """One value as it is compared; two values are equal when this says the same of both.

    PN: folded for case, each component without spaces around it, without trailing empty
    components and component groups.  DA: ``YYYYMMDD``.  TM: ``HHMMSS.FFFFFF``, what is
    missing is zero.  DT: likewise, in UTC if it says an offset.  Numbers: without leading
    zeros, signs and forms that mean nothing.  Others: without insignificant spaces and padding.
    What cannot be read as its VR is compared as text.  Idempotent.

    Args:
        fold_accents: of a PN, drop accents and other marks (`names.fold`).
    """
    if vr == "PN":
        return "=".join(split_groups(value, fold_accents=fold_accents))
    if vr in _LEADING_SPACES_COUNT:
        return value.rstrip(PADDING)
    text = value.strip(PADDING)
    if vr == "DA":
        date = _DATE.fullmatch(text)
        return text if date is None else date[1] + date[3] + date[4]
    if vr == "TM":
        return _normalize_time(text, "00", "0") or text
    if vr == "DT":
        return date_times.normal(text)
    if vr in _INTEGER_VRS:
        if len(text) <= _NUMBER_LENGTH and _INTEGER.fullmatch(text):
            return str(int(text))
    elif vr in _DECIMAL_VRS and len(text) <= _NUMBER_LENGTH and _DECIMAL.fullmatch(text):
        number = float(text)
        # Adding zero makes -0.0 positive.
        return repr(number + 0.0) if math.isfinite(number) else text
    return text


def _normalize_time(text: str, missing: str, missing_digit: str) -> str | None:
    time = _TIME.fullmatch(text)
    if time is None:
        return None
    hours, minutes, seconds, fraction = time.groups()
    fraction = (fraction or "").ljust(6, missing_digit)
    return f"{hours}{minutes or missing}{seconds or missing}.{fraction}"


def split_groups(name: str, *, fold_accents: bool = False) -> tuple[str, ...]:
    """The component groups of one PN as they are compared: alphabetic, ideographic, phonetic.

    Without trailing empty groups, so none for an empty name (PS3.5 6.2.1.1).
    """
    if not name.isascii():
        # Case folding can undo NFC, and NFC of what it made is stable.
        name = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
        if fold_accents:
            name = fold(name)
    else:
        name = name.lower()
    groups = [
        "^".join([component.strip(PADDING) for component in group.split("^")]).rstrip("^")
        for group in name.split("=")
    ]
    while groups and not groups[-1]:
        groups.pop()
    return tuple(groups)


def range_bounds(vr: str, bounds: Range) -> tuple[str | None, str | None]:
    """Both ends as they are compared with values that `normalize` wrote; None is open.

    A time that is not given to the microsecond stands for all that begins with it
    (PS3.5 6.2: a missing component is one that is not known), so ``-11`` reaches
    to 11:59:59.999999.
    """
    low = None if bounds.low is None else normalize(vr, bounds.low)
    high = None if bounds.high is None else normalize(vr, bounds.high)
    if vr == "TM" and bounds.high is not None:
        high = _normalize_time(bounds.high.strip(PADDING), "59", "9") or high
    return low, high


def is_range_comparable(vr: str, normalized: str) -> bool:
    """Whether a normalized value is a date or time that has its place before or after others."""
    if vr == "DA":
        return _CANONICAL_DATE.fullmatch(normalized) is not None
    return vr == "TM" and _CANONICAL_TIME.fullmatch(normalized) is not None


def is_wild(vr: str, text: str) -> bool:
    """Whether a key of this VR asks for wild card matching."""
    return vr in WILD_CARD_VRS and ("*" in text or "?" in text)


def matches(criterion: Criterion, text: str) -> bool:
    """Whether an attribute of `attributes.ATTRIBUTES` with this text satisfies *criterion*.

    Raises:
        KeyError: the index has no such attribute.
    """
    return matches_text(BY_TAG[criterion.tag].vr, criterion.match, text)


def matches_text(vr: str, match: Match, text: str, *, fold_accents: bool = False) -> bool:
    """Whether an attribute of this VR with this text (for SQ: JSON) satisfies *match*."""
    match match:
        case SequenceMatch():
            return vr == "SQ" and _matches_sequence(match, text, fold_accents)
        case EmptyValue():
            return not any(normalize(vr, value) for value in split_values(vr, text))
        case SingleValue():
            return _any_value(vr, text, _equality(vr, (match.value,), fold_accents), fold_accents)
        case ValueList():
            return _any_value(vr, text, _equality(vr, match.values, fold_accents), fold_accents)
        case WildCard():
            return _any_value(vr, text, _wild_card(vr, match.pattern, fold_accents), fold_accents)
        case NameMatch():
            return any(_describes(key, match.comparison, text) for key in match.keys)
        case Range() if vr == "DT":
            return any(
                date_times.is_within(value.strip(PADDING), match.low, match.high)
                for value in split_values(vr, text)
            )
        case Range():
            low, high = range_bounds(vr, match)
            return _any_value(
                vr,
                text,
                lambda value: (
                    is_range_comparable(vr, value)
                    and (low is None or low <= value)
                    and (high is None or value <= high)
                ),
            )
        case _:
            assert_never(match)


def _describes(key: str, comparison: NameComparison, text: str) -> bool:
    """Whether one of the names in *text* fits *key*."""
    wanted = wanted_words(key) if comparison is NameComparison.FUZZY else ()
    if wanted:
        return any(has_words(name, wanted) for name in split_values("PN", text))
    literal = _wild_card if is_wild("PN", key) else _equality_of_one
    return _any_value("PN", text, literal("PN", key, True), fold_accents=True)


def _any_value(
    vr: str, text: str, predicate: Callable[[str], bool], fold_accents: bool = False
) -> bool:
    for value in split_values(vr, text):
        normalized = normalize(vr, value, fold_accents=fold_accents)
        if normalized and predicate(normalized):
            return True
    return False


def _equality(vr: str, keys: Sequence[str], fold_accents: bool) -> Callable[[str], bool]:
    wanted = {normalize(vr, key, fold_accents=fold_accents) for key in keys}
    if vr == "PN":
        names = [key.split("=") for key in wanted if key]
        return lambda name: any(_matches_name(key, name, str.__eq__) for key in names)
    return wanted.__contains__


def _equality_of_one(vr: str, key: str, fold_accents: bool) -> Callable[[str], bool]:
    return _equality(vr, (key,), fold_accents)


def _wild_card(vr: str, pattern: str, fold_accents: bool) -> Callable[[str], bool]:
    normalized = normalize(vr, pattern, fold_accents=fold_accents)
    if vr not in WILD_CARD_VRS:
        return normalized.__eq__
    if vr == "PN":
        key = normalized.split("=")
        return lambda name: _matches_name(key, name, wildcard_match)
    return lambda value: wildcard_match(normalized, value)


def _matches_name(key: Sequence[str], name: str, compare: Callable[[str, str], bool]) -> bool:
    """Whether a normalized name fits a normalized key by component groups.

    A key of one group may be found in any group of the name; in a key of several, each
    that is given must be found in the same group.
    """
    groups = name.split("=")
    if len(key) == 1:
        return any(compare(key[0], group) for group in groups if group)
    for number, group in enumerate(key):
        if group and not (
            number < len(groups) and groups[number] and compare(group, groups[number])
        ):
            return False
    return True


def decode_sequence(text: str) -> list[dict[str, str]]:
    """The items in the JSON text of a sequence (see `attributes.REQUEST_ATTRIBUTES`)."""
    if not text:
        return []
    try:
        items = orjson.loads(text)
    except orjson.JSONDecodeError:
        return []
    if not isinstance(items, list):
        return []
    return [
        {tag: value for tag, value in item.items() if isinstance(value, str)}
        for item in items
        if isinstance(item, dict)
    ]


def _matches_sequence(match: SequenceMatch, text: str, fold_accents: bool) -> bool:
    return any(
        all(
            matches_text(
                REQUEST_ATTRIBUTES.get(criterion.tag, "UN"),
                criterion.match,
                item.get(f"{criterion.tag:08X}", ""),
                fold_accents=fold_accents,
            )
            for criterion in match.criteria
        )
        for item in decode_sequence(text)
    )


def matches_combined(combined: CombinedRange, date_text: str, time_text: str) -> bool:
    """Whether the point in time that two attributes make lies in the range.

    Without a time it is the whole day, and lies in the range when some of the day does;
    without a date it is nothing.
    """
    if combined.zoned is not None:
        return _matches_zoned(combined, combined.zoned, date_text, time_text)
    dates = [
        date
        for value in split_values("DA", date_text)
        if is_range_comparable("DA", date := normalize("DA", value))
    ]
    spans = [
        (time, time)
        for value in split_values("TM", time_text)
        if is_range_comparable("TM", time := normalize("TM", value))
    ] or [(_DAY_BEGINS, _DAY_ENDS)]
    return any(
        (combined.low is None or combined.low <= date + end)
        and (combined.high is None or date + begin <= combined.high)
        for date in dates
        for begin, end in spans
    )


def combined_days(combined: CombinedRange) -> tuple[str | None, str | None]:
    """The first and the last date that can match; None: there is none."""
    low, high = (end and end[:_DATE_LENGTH] for end in (combined.low, combined.high))
    if combined.zoned is None:
        return low, high
    if isinstance(combined.zoned.date, Range):
        first, last = range_bounds("DA", combined.zoned.date)
        low, high = low or first, high or last
    elif isinstance(combined.zoned.date, SingleValue):
        low = high = normalize("DA", combined.zoned.date.value)
    # Two clocks are up to 26 hours apart.
    return _days_later(low, -2), _days_later(high, 2)


def _days_later(date: str | None, days: int) -> str | None:
    if date is None or not is_range_comparable("DA", date):
        return None
    try:
        day = calendar_date(int(date[:4]), int(date[4:6]), int(date[6:]))
        return (day + timedelta(days)).isoformat().replace("-", "")
    except (ValueError, OverflowError):
        return None


def _matches_zoned(
    combined: CombinedRange, zoned: ZonedKeys, date_text: str, time_text: str
) -> bool:
    plain = replace(combined, zoned=None)
    for date_value in split_values("DA", date_text):
        date = normalize("DA", date_value)
        if not is_range_comparable("DA", date):
            continue
        for time_value in split_values("TM", time_text):
            day, hour = zoned.change.of(date, normalize("TM", time_value))
            if (
                (zoned.date is None or matches_text("DA", zoned.date, day))
                and (zoned.time is None or matches_text("TM", zoned.time, hour))
                and matches_combined(plain, day, hour)
            ):
                return True
    return False
