"""Object keys: where the archive puts an object, from validated UIDs and nothing else.

A key is ``/``-separated and ends in ``<SOP Instance UID>.dcm``.  It is found once, when
the object is stored, and kept in the index; changing the scheme leaves old objects
where they are.

A UID of PS3.5 9.1 is its own name.  Others (`isocenter.services.dicom.uids`) are written so that
no two have the same name, also where a file system makes no difference between capital and
small letters, and that no name means anything to a file system: digits, small letters, dots and
hyphens stand as they are; ``_`` before a letter exchanges capital and small letters from there
on; any other sign, and a dot at either end, is ``_`` and two hexadecimal digits.
"""

from __future__ import annotations

import hashlib
import re
from datetime import date
from enum import Enum
from typing import Final

from isocenter.engine.uid import is_safe_uid
from isocenter.services.dicom.uids import MAX_UID_LENGTH, UidRule

_SUFFIX: Final = ".dcm"
#: What stands as it is in the name of a UID that breaks PS3.5 9.1, beside letters.
_PLAIN: Final = frozenset("0123456789.-")
#: Begins what does not.
_MARK: Final = "_"
_CODE: Final = re.compile(r"[2-7][0-9a-f]")
#: Of the name of a folder that is a digest: two marks, and 112 bits.  Two studies in one folder
#: would do no harm, as each object has a name of its own.
_DIGEST_LENGTH: Final = 30
#: Of the name of an instance: what a key has room for beside two digests.  Letters of both kinds
#: in turns take 128.
_MAX_NAME_LENGTH: Final = 130
#: Stands before the eight hexadecimal digits that tell apart two objects of one instance.
_DISTINCT_MARK: Final = "~"
_DISTINCT: Final = re.compile(r"~[0-9a-f]{8}")
#: DA as PS3.5 6.2 writes it, or with the periods of ACR-NEMA 2 that it asks readers to accept.
_DATE: Final = re.compile(r"([0-9]{4})(\.?)([0-9]{2})\2([0-9]{2})")
_UNKNOWN_DATE: Final = "unknown"


class NamingScheme(Enum):
    """How the archive lays out its objects."""

    #: ``<study>/<series>/<instance>.dcm``; a name that is too long for a folder is a digest
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
        ValueError: a UID that `can_be_named` refuses; callers have checked before.
    """
    for uid in (study_instance_uid, series_instance_uid, sop_instance_uid):
        if not can_be_named(uid):
            raise ValueError("a UID that is not valid cannot be part of an object key")
    name = name_of_uid(sop_instance_uid)
    # What a long name takes, its folders leave: a key has a bound (`storage.objects.keys`).
    longest = MAX_UID_LENGTH if len(name) <= MAX_UID_LENGTH else _DIGEST_LENGTH
    study = _folder(study_instance_uid, longest)
    match scheme:
        case NamingScheme.UID:
            return f"{study}/{_folder(series_instance_uid, longest)}/{name}{_SUFFIX}"
        case NamingScheme.DATE:
            return f"{_date_folders(study_date.strip(), today)}/{study}/{name}{_SUFFIX}"
        case NamingScheme.FLAT:
            return name + _SUFFIX


def can_be_named(uid: str) -> bool:
    """Whether *uid* can be part of a key: if it is safe, and its name is not too long."""
    if is_safe_uid(uid):
        return True
    return UidRule.SAFE.allows(uid) and len(name_of_uid(uid)) <= _MAX_NAME_LENGTH


def name_of_uid(uid: str) -> str:
    """*uid* as a name; see the head of this module."""
    if is_safe_uid(uid):
        return uid
    parts = []
    are_capitals = False
    for place, sign in enumerate(uid):
        is_at_end = place in (0, len(uid) - 1)
        if sign in _PLAIN and not (sign == "." and is_at_end):
            parts.append(sign)
        elif sign.isalpha():
            if sign.isupper() is not are_capitals:
                are_capitals = not are_capitals
                parts.append(_MARK)
            parts.append(sign.lower())
        else:
            parts.append(f"{_MARK}{ord(sign):02x}")
    return "".join(parts)


def _uid_of_name(name: str) -> str | None:
    """The UID that has this name; None: none has."""
    if is_safe_uid(name):
        return name
    parts = []
    are_capitals = False
    place = 0
    while place < len(name):
        sign = name[place]
        place += 1
        if sign == _MARK:
            if (code := name[place : place + 2]) and code[0].isdigit():
                if not _CODE.fullmatch(code):
                    return None
                parts.append(chr(int(code, 16)))
                place += 2
            else:
                are_capitals = not are_capitals
        else:
            parts.append(sign.upper() if are_capitals else sign)
    uid = "".join(parts)
    return uid if can_be_named(uid) and name_of_uid(uid) == name else None


def _folder(uid: str, longest: int) -> str:
    name = name_of_uid(uid)
    if len(name) <= longest:
        return name
    # No name has two marks in a row.
    return (_MARK * 2 + hashlib.sha256(uid.encode("ascii")).hexdigest())[:_DIGEST_LENGTH]


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


def plain_key(key: str) -> str:
    """*key* without what told it apart before."""
    head, mark, _ = key.rpartition(_DISTINCT_MARK)
    return f"{head}{_SUFFIX}" if mark else key


def is_distinct(key: str) -> bool:
    """Whether *key* was made because another object had the plain key."""
    return bool(_DISTINCT.fullmatch(key[-len("~00000000.dcm") : -len(_SUFFIX)]))


def sop_instance_uid_of(key: str) -> str | None:
    """The SOP Instance UID that every scheme ends a key with; None: no key of ours."""
    name = key.rpartition("/")[2]
    if not name.endswith(_SUFFIX):
        return None
    named, mark, token = name.removesuffix(_SUFFIX).partition(_DISTINCT_MARK)
    if mark and not _DISTINCT.fullmatch(mark + token):
        return None
    return _uid_of_name(named)
