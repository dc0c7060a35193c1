"""Values of FHIR search parameters: tokens, references, dates, strings (FHIR R4 3.1.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from typing import Final, NamedTuple

from isocenter.services.archive.index.query import Range
from isocenter.services.net.http.messages import HttpError

#: Values of one parameter.
MOST_VALUES: Final = 100
_MOST_LENGTH: Final = 256
_DATE: Final = re.compile(
    r"(eq|ne|gt|lt|ge|le|sa|eb|ap)?"
    r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})"
    r"(?:T([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?)(Z|[+-][0-9]{2}:[0-9]{2})?)?)?)?"
)
_DAY: Final = timedelta(days=1)
_MOMENT: Final = timedelta(microseconds=1)


class Token(NamedTuple):
    """A token; *system* is None where none was said, and empty where none is asked for."""

    system: str | None
    code: str


def bad(name: str, why: str) -> HttpError:
    """A parameter that makes no sense; without its value, which may name a patient."""
    return HttpError(400, "BAD_QUERY", f"{name}: {why}")


def values_of(name: str, text: str) -> list[str]:
    """The values of a parameter, any of which has to match; still escaped.

    Raises:
        HttpError: there are too many, they are too long, or one is empty.
    """
    found = re.split(r"(?<!\\),", text)
    if len(found) > MOST_VALUES:
        raise bad(name, f"it has more than {MOST_VALUES} values")
    if any(len(one) > _MOST_LENGTH for one in found):
        raise bad(name, f"a value has more than {_MOST_LENGTH} characters")
    if not all(one.strip() for one in found):
        raise bad(name, "a value is empty")
    if any("\0" in one or "\ud800" <= char <= "\udfff" for one in found for char in one):
        raise bad(name, "a value has characters that no text has")
    return found


def unescaped(text: str) -> str:
    """A value without its escapes."""
    return re.sub(r"\\([\\,$|])", r"\1", text)


def tokens(name: str, text: str) -> Iterator[Token]:
    """Tokens: ``code``, ``system|code`` or ``|code``."""
    for one in values_of(name, text):
        parts = re.split(r"(?<!\\)\|", one, maxsplit=1)
        code = unescaped(parts[-1])
        if not code:
            raise bad(name, "a system alone is not searched for; say system|code")
        yield Token(unescaped(parts[0]) if len(parts) == 2 else None, code)


def references(name: str, kind: str, text: str) -> Iterator[str]:
    """Ids of references: ``id``, ``Patient/id`` or the URL of a resource."""
    for one in values_of(name, text):
        head, _, found = unescaped(one).rpartition("/")
        if head and head.rpartition("/")[2] != kind:
            raise bad(name, f"it refers to a {kind}")
        yield found


class Period(NamedTuple):
    """From *low* to *high*, both included; None is an open end."""

    low: datetime | None
    high: datetime | None
    has_time: bool

    def days(self) -> Range:
        """As a range of DA."""
        low = None if self.low is None else self.low.strftime("%Y%m%d")
        high = None if self.high is None else self.high.strftime("%Y%m%d")
        return Range(low, high)

    def moments(self) -> tuple[str | None, str | None]:
        """As a range of date and time together."""
        form = "%Y%m%d%H%M%S.%f"
        low = None if self.low is None else self.low.strftime(form)
        high = None if self.high is None else self.high.strftime(form)
        return low, high


def period(name: str, text: str, zone: tzinfo | None) -> Period:
    """A date with its prefix, as the clocks of the archive show it.

    Args:
        zone: of those clocks; None: that of this machine.

    Raises:
        HttpError: it is none, or has a prefix that is not understood.
    """
    found = _DATE.fullmatch(text.strip())
    if found is None:
        raise bad(name, "a date is like 2026, 2026-11, ge2026-11-30 or lt2026-11-30T08:00:00Z")
    prefix, year, month, day, time, offset = found.groups()
    try:
        start = datetime(int(year), int(month or 1), int(day or 1))  # noqa: DTZ001 (of no zone yet)
        if time:
            moment = datetime.fromisoformat(
                f"{start:%Y-%m-%d}T{time}{'+00:00' if offset == 'Z' else offset or ''}"
            )
            start = _on_our_clocks(moment, zone)
            end = start + timedelta(seconds=1 if time.count(":") == 2 else 60)
        elif day:
            end = start + _DAY
        elif month:
            end = (start.replace(day=28) + 4 * _DAY).replace(day=1)
        else:
            end = start.replace(year=start.year + 1)
    except (ValueError, OverflowError) as error:
        raise bad(name, "there is no such date") from error
    last = end - _MOMENT
    match prefix or "eq":
        case "eq":
            return Period(start, last, bool(time))
        case "ge":
            return Period(start, None, bool(time))
        case "gt" | "sa":
            return Period(end, None, bool(time))
        case "le":
            return Period(None, last, bool(time))
        case "lt" | "eb":
            return Period(None, start - _MOMENT, bool(time))
        case other:
            raise bad(name, f"the prefix {other} is not understood")


def _on_our_clocks(moment: datetime, zone: tzinfo | None) -> datetime:
    if moment.tzinfo is None:
        return moment
    return moment.astimezone(zone).replace(tzinfo=None)


def wild(text: str) -> str:
    """Text within a wild card; what would be one in it matches any character."""
    return "".join("?" if one in "*?\\=^" else one for one in text)
