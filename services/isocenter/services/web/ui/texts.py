"""Values of attributes as people read them: names, dates, times, sizes."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Final

from isocenter.services.dicom.element_texts import person_name_groups

_SIZES: Final = ("bytes", "kB", "MB", "GB", "TB", "PB")
_FAMILY, _GIVEN, _MIDDLE, _PREFIX, _SUFFIX = range(5)


def person_name(text: str) -> str:
    """A person name (PN) as "Family, Prefix Given Middle, Suffix", with its ideographic group
    behind it; of several names all."""
    return "; ".join(_one_name(name) for name in text.split("\\") if name)


def _one_name(text: str) -> str:
    groups = [_components(group) for group in person_name_groups(text)]
    shown = [group for group in groups[:2] if group]
    return shown[0] + "".join(f" ({group})" for group in shown[1:]) if shown else ""


def _components(group: str) -> str:
    parts = [part.strip() for part in group.split("^")]
    parts += [""] * (_SUFFIX + 1 - len(parts))
    given = " ".join(filter(None, (parts[_PREFIX], parts[_GIVEN], parts[_MIDDLE])))
    return ", ".join(filter(None, (parts[_FAMILY], given, *parts[_SUFFIX:])))


def date_text(text: str) -> str:
    """A date (DA) as 2026-11-29; what is none stays as it is."""
    digits = text.replace(".", "")
    if len(digits) == 8 and digits.isdecimal():
        return f"{digits[:4]}-{digits[4:6]}-{digits[6:]}"
    return text


def time_text(text: str) -> str:
    """A time (TM) as 17:05:30, without fractions; what is none stays as it is."""
    digits = text.replace(":", "").partition(".")[0]
    if len(digits) in (2, 4, 6) and digits.isdecimal():
        return ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))
    return text


def list_text(text: str) -> str:
    """Several values with commas between them."""
    return ", ".join(filter(None, text.split("\\")))


def size_text(size: float) -> str:
    """So many bytes, in the unit that leaves the fewest digits."""
    for unit in _SIZES[:-1]:
        if size < 1000:
            return f"{size:,.0f} {unit}" if unit == "bytes" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.0f} {_SIZES[-1]}"


def date_of_form(text: str) -> str:
    """A date as a form or a person writes it, as DA.

    Raises:
        ValueError: it is none.
    """
    text = text.strip()
    return date.fromisoformat(text).strftime("%Y%m%d") if text else ""


def moment_text(seconds: float) -> str:
    """A moment, in seconds since 1970, as 2026-11-29 17:05 UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def written_moment_text(text: str) -> str:
    """A moment as ISO 8601 writes it, in UTC to the second; what is none, as it is."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def second_text(seconds: float) -> str:
    """The same to the second, without its zone: 2026-11-29 17:05:09."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
