"""Object keys: where the archive puts an object, from validated UIDs and nothing else.

A key is ``/``-separated and ends in ``<SOP Instance UID>.dcm``.  It is found once, when
the object is stored, and kept in the index; changing the scheme leaves old objects
where they are.
"""

from __future__ import annotations

import re
from datetime import date
from enum import Enum
from typing import Final

from isocenter.engine.uid import is_safe_uid

_SUFFIX: Final = ".dcm"
#: Stands before the eight hexadecimal digits that tell apart two objects of one instance.
_DISTINCT_MARK: Final = "~"
_DISTINCT: Final = re.compile(r"~[0-9a-f]{8}")
#: DA as PS3.5 6.2 writes it, or with the periods of ACR-NEMA 2 that it asks readers to accept.
_DATE: Final = re.compile(r"([0-9]{4})(\.?)([0-9]{2})\2([0-9]{2})")
_UNKNOWN_DATE: Final = "unknown"


class NamingScheme(Enum):
    """How the archive lays out its objects."""

    #: ``<study>/<series>/<instance>.dcm``
    UID = "uid"
    #: ``YYYY/MM/DD/<study>/<instance>.dcm`` by Study Date (0008,0020)
    DATE = "date"
    #: ``<instance>.dcm``
    FLAT = "flat"


def object_key(
    scheme: NamingScheme,
    *,
    study_instance_uid: str,
    series_instance_uid: str,
    sop_instance_uid: str,
    study_date: str,
    today: date,
) -> str:
    """The key of an object.

    Args:
        study_date: text of Study Date; empty: *today* takes its place; not a date: ``unknown``.

    Raises:
        ValueError: a UID that `is_safe_uid` refuses; callers have checked before.
    """
    for uid in (study_instance_uid, series_instance_uid, sop_instance_uid):
        if not is_safe_uid(uid):
            raise ValueError("a UID that is not valid cannot be part of an object key")
    name = sop_instance_uid + _SUFFIX
    match scheme:
        case NamingScheme.UID:
            return f"{study_instance_uid}/{series_instance_uid}/{name}"
        case NamingScheme.DATE:
            return f"{_date_folders(study_date.strip(), today)}/{study_instance_uid}/{name}"
        case NamingScheme.FLAT:
            return name


def _date_folders(study_date: str, today: date) -> str:
    if not study_date:
        return today.strftime("%Y/%m/%d")
    match = _DATE.fullmatch(study_date)
    if match is None:
        return _UNKNOWN_DATE
    year, month, day = match[1], match[3], match[4]
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return _UNKNOWN_DATE
    return f"{year}/{month}/{day}"


def distinct_key(key: str, token: str) -> str:
    """Another key for the same instance, when *key* is taken; *token* has 8 hexadecimal digits."""
    if not _DISTINCT.fullmatch(_DISTINCT_MARK + token):
        raise ValueError("the token of a distinct key has 8 lower-case hexadecimal digits")
    return f"{key.removesuffix(_SUFFIX)}{_DISTINCT_MARK}{token}{_SUFFIX}"


def is_distinct(key: str) -> bool:
    """Whether *key* was made because another object had the plain key."""
    return bool(_DISTINCT.fullmatch(key[-len("~00000000.dcm") : -len(_SUFFIX)]))


def sop_instance_uid_of(key: str) -> str | None:
    """The SOP Instance UID that every scheme ends a key with; None: no key of ours."""
    name = key.rpartition("/")[2]
    if not name.endswith(_SUFFIX):
        return None
    uid, mark, token = name.removesuffix(_SUFFIX).partition(_DISTINCT_MARK)
    if mark and not _DISTINCT.fullmatch(mark + token):
        return None
    return uid if is_safe_uid(uid) else None
