"""Keys of a search for workitems, and their match (PS3.4 CC.2.8, CC.2.3.3).

As of the worklist, and ranges of DT, which say when a workitem is scheduled.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from isocenter.engine.buffers import Buffer
from isocenter.engine.dimse.status import Status
from isocenter.engine.fast_init import dataclass
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.services.archive.index.query import Match, NameComparison
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.dicom.data_dictionary import dictionary_vr
from isocenter.services.service_classes.query_retrieve.matching_keys import IdentifierError
from isocenter.services.service_classes.ups.workitem import (
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    TRANSACTION_UID,
)
from isocenter.services.service_classes.worklist.query_keys import Keys, parse_keys

_VALUE: Final = r"\d{4}(?:\d\d){0,5}(?:\.\d{1,6})?(?:[+-](?:0\d|1[0-4])[0-5]\d)?"
_SINGLE: Final = re.compile(_VALUE)
_RANGE: Final = re.compile(rf"(?P<low>{_VALUE})?-(?P<high>{_VALUE})?")
_PARTS: Final = re.compile(
    r"(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:\.(\d{1,6}))?(?:([+-])(\d\d)(\d\d))?"
)


@dataclass(frozen=True, slots=True)
class WorkitemKeys:
    """An identifier as understood.

    Attributes:
        ranges: tag → the first and the last moment of a range of DT; None: open.
        unsupported: keys whose value is not looked at (status FF01H).
    """

    keys: Keys
    ranges: Mapping[int, tuple[datetime | None, datetime | None]]
    unsupported: tuple[int, ...] = ()

    def match(self, tag: int) -> Match | None:
        """What is asked of an attribute; None: nothing that could narrow a search down."""
        return self.keys.match(tag)

    def matches(self, attributes: AttributeList) -> bool:
        """Whether a workitem matches."""
        return self.keys.matches(attributes) and all(
            _is_between(attributes.text(tag), low, high) for tag, (low, high) in self.ranges.items()
        )

    def response(self, attributes: AttributeList) -> AttributeList:
        """What is asked for, and which workitem it is of (Table CC.2.8-1)."""
        found = self.keys.response(attributes)
        known = attributes.elements
        elements = {tag: one for tag, one in found.elements.items() if tag != TRANSACTION_UID}
        elements |= {tag: known[tag] for tag in (SOP_CLASS_UID, SOP_INSTANCE_UID) if tag in known}
        return AttributeList(dict(sorted(elements.items())))


def parse_workitem_keys(
    identifier: Buffer,
    transfer_syntax_uid: str,
    limits: Limits = DEFAULT_LIMITS,
    undeclared: tuple[str, ...] = (),
    *,
    names: NameComparison = NameComparison.LITERAL,
) -> WorkitemKeys:
    """What an identifier asks for.

    Args:
        names: how person names are compared.

    Raises:
        IdentifierError: as of `parse_keys`; A900H also for a range of DT that is none.
    """
    keys = parse_keys(
        identifier, transfer_syntax_uid, limits, undeclared, names=names, has_ranges_of_dt=False
    )
    ranges: dict[int, tuple[datetime | None, datetime | None]] = {}
    unsupported = list(keys.unsupported)
    dated = [tag for tag in unsupported if dictionary_vr(tag) == "DT"]
    if dated:
        attributes = AttributeList.read(identifier, transfer_syntax_uid, limits)
        for tag in dated:
            text = attributes.text(tag).strip()
            if not text:
                continue  # in an item: that is not looked at
            ranges[tag] = _range(text, tag)
            unsupported.remove(tag)
    return WorkitemKeys(keys, ranges, tuple(unsupported))


def _range(text: str, tag: int) -> tuple[datetime | None, datetime | None]:
    try:
        # 2026-0500 is a year with an offset from UTC, 2026-2027 cannot be one.
        if _SINGLE.fullmatch(text):
            return _bounds(text)
        found = _RANGE.fullmatch(text)
        if found is None or text == "-":
            raise ValueError
        low, high = found["low"], found["high"]
        return (_bounds(low)[0] if low else None), (_bounds(high)[1] if high else None)
    except (ValueError, OverflowError):
        raise IdentifierError(
            Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS, "a range of date and time is none", (tag,)
        ) from None


def _bounds(text: str) -> tuple[datetime, datetime]:
    """The first and the last moment that a value means; without an offset it is in UTC."""
    found = _PARTS.fullmatch(text)
    if found is None:
        raise ValueError
    year, month, day, hour, minute, second, fraction, sign, hours, minutes = found.groups()
    zone: timezone = UTC
    if sign:
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        zone = timezone(offset if sign == "+" else -offset)
    last_month = int(month or 12)
    micro_low = int((fraction or "").ljust(6, "0"))
    micro_high = int((fraction or "").ljust(6, "9"))
    low = datetime(
        int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0),
        min(int(second or 0), 59), micro_low, zone,
    )  # fmt: skip
    high = datetime(
        int(year), last_month, int(day or monthrange(int(year), last_month)[1]),
        int(23 if hour is None else hour), int(59 if minute is None else minute),
        min(int(59 if second is None else second), 59), micro_high, zone,
    )  # fmt: skip
    return low, high


def _is_between(text: str, low: datetime | None, high: datetime | None) -> bool:
    try:
        first, last = _bounds(text.strip())
        return (low is None or last >= low) and (high is None or first <= high)
    except (ValueError, OverflowError):
        return False
