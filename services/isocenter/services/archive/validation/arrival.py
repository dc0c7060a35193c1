"""Validation of one object while it arrives."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import encoding_of
from isocenter.engine.dimse.status import Status
from isocenter.engine.limits import Limits
from isocenter.services.archive.object_scan import StoreError
from isocenter.services.archive.validation.mark import (
    BrokenRule,
    ValidationMark,
    ValidationPolicy,
)
from isocenter.services.dicom.iod.findings import Finding
from isocenter.services.dicom.iod.heads import HEAD_BYTES, read_head
from isocenter.services.dicom.iod.items import device_of
from isocenter.services.dicom.iod.validation import validate_items

log = logging.getLogger("isocenter.archive")

#: Bytes of a data set that are held; what is longer without pixels is not judged.
MOST_HELD: Final = HEAD_BYTES
#: Of more bytes the event loop does not judge itself: a thread does.  Empty items of functional
#: groups, of eight bytes each, take a tenth of a millisecond.
_IN_LOOP: Final = 4 << 10
#: Rules that are kept of one object.
_MOST_RULES: Final = 50
#: Findings that a message names.
_MOST_NAMED: Final = 3


class ArrivalValidation:
    """Holds what validation needs of one object, and judges it.

    Args:
        on_validated: told what came of it: whether it is valid, whether it is refused.
    """

    __slots__ = ("_held", "_limits", "_on_validated", "_size", "_syntax", "held", "refused")

    def __init__(
        self,
        transfer_syntax_uid: str,
        limits: Limits,
        on_validated: Callable[[bool, bool], None] = lambda is_valid, is_refused: None,
    ) -> None:
        self._syntax = transfer_syntax_uid
        self._limits = limits
        self._on_validated = on_validated
        self._held: list[bytes] = []
        self._size = 0
        #: Bytes that are held.
        self.held = 0
        #: Of one that is refused, its mark, and what is wrong with it.
        self.refused: tuple[ValidationMark, str] | None = None

    def feed(self, data: Buffer) -> None:
        """The next piece of the data set, as it is kept."""
        self._size += len(data)
        room = MOST_HELD - self.held
        if room > 0:
            piece = bytes(memoryview(data)[:room])
            self._held.append(piece)
            self.held += len(piece)

    async def judge(self, policy: ValidationPolicy, sender: str) -> ValidationMark | None:
        """What was found; None: the object is too large to be judged here, or cannot be.

        Raises:
            StoreError: it is not valid, and refused (A900H).
        """
        data = b"".join(self._held)
        self._held.clear()
        try:
            mark, named, tags = await self._judged_somewhere(data, sender)
        except Exception as error:
            # A fault of ours is no fault of the object, and must not keep it out.
            log.error("an object could not be validated: %s", type(error).__name__)
            return None
        if mark is None:
            return None
        is_refused = policy is ValidationPolicy.REJECT and not mark.is_valid
        self._on_validated(mark.is_valid, is_refused)
        if is_refused:
            self.refused = mark, named
            raise StoreError(Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS, f"not valid: {named}", tags)
        return mark

    async def _judged_somewhere(
        self, data: bytes, sender: str
    ) -> tuple[ValidationMark | None, str, tuple[int, ...]]:
        if len(data) <= _IN_LOOP and not encoding_of(self._syntax).deflated:
            return self._judged(data, sender)
        return await trio.to_thread.run_sync(self._judged, data, sender)

    def _judged(
        self, data: bytes, sender: str
    ) -> tuple[ValidationMark | None, str, tuple[int, ...]]:
        read = read_head(data, self._size, self._syntax, self._limits, MOST_HELD)
        if read is None:
            return None, "", ()
        result = validate_items(read)
        mark = ValidationMark(
            sender=sender,
            device=device_of(read.root),
            errors=result.errors,
            warnings=result.warnings,
            rules=tuple(
                BrokenRule(code=each.code, severity=each.severity, path=each.path,
                           count=each.count)
                for each in result.findings[:_MOST_RULES]
                if each.severity != "info"
            ),
        )  # fmt: skip
        wrong = [each for each in result.findings if each.severity == "error"]
        tags = tuple(each.tag for each in wrong if each.tag is not None)[:_MOST_NAMED]
        return mark, named(wrong), tags


def named(findings: list[Finding]) -> str:
    """Codes and paths of the first of *findings*; never a value."""
    shown = [f"{each.code} {each.path}".strip() for each in findings[:_MOST_NAMED]]
    more = len(findings) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def named_rules(mark: ValidationMark) -> str:
    """The same of a mark."""
    wrong = [each for each in mark.rules if each.severity == "error"]
    shown = [f"{each.code} {each.path}".strip() for each in wrong[:_MOST_NAMED]]
    more = mark.errors - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
