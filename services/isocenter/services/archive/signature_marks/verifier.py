"""Verification of signed objects after they came, one after the other."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.ports import Index, StoredInstance
from isocenter.services.archive.signature_check import SignatureCheck
from isocenter.services.archive.signature_marks.mark import SignatureMark
from isocenter.services.archive.signature_marks.ports import SignatureBook
from isocenter.services.dicom.signatures.verification import SignatureState, VerifiedSignature
from isocenter.services.errors import StorageError
from isocenter.services.notices import Caller, Notices, WingNotice

log = logging.getLogger("isocenter.archive")

#: Objects that are looked up together.
_AT_ONCE: Final = 50
_A_MOMENT: Final = partial(trio.sleep, 10.0)
#: Characters of a mark.
_LONGEST: Final = 256
_STATES: Final = [state.value for state in SignatureState]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignaturesVerified(WingNotice):
    """The signatures of an object were verified.

    Attributes:
        caller: who asked for it; None: they were when it had come.
        state: see `SignatureMark`.
    """

    caller: Caller | None = None
    study_instance_uid: str
    sop_instance_uid: str
    state: str
    signer: str


class MarkedCheck:
    """Verifies signatures of stored objects, marks the objects, and tells of it.

    Args:
        check: verifies.
        book: keeps the marks.
    """

    def __init__(self, check: SignatureCheck, book: SignatureBook, notices: Notices) -> None:
        self._check = check
        self._book = book
        self._notices = notices

    async def verify(
        self, stored: StoredInstance, caller: Caller | None = None
    ) -> list[VerifiedSignature]:
        """As `SignatureCheck.verify`."""
        found = await self._check.verify(stored)
        if found:
            mark = mark_of(found)
            await self._book.note(stored.sop_instance_uid, mark, digest=stored.digest)
            self._notices.publish(
                SignaturesVerified(
                    caller=caller,
                    study_instance_uid=stored.study_instance_uid,
                    sop_instance_uid=stored.sop_instance_uid,
                    state=mark.state,
                    signer=mark.signer,
                )
            )
        return found


async def verify_arrivals(
    index: Index,
    book: SignatureBook,
    check: MarkedCheck,
    *,
    pause: Callable[[], Awaitable[None]] = _A_MOMENT,
) -> None:
    """Verify what nobody has, until cancelled.

    Args:
        pause: waits until it is worth looking again.
    """
    while True:
        try:
            while await _verify_some(index, book, check):
                pass
        except StorageError as error:
            log.warning("signatures of what came are verified later: %s", error)
        except Exception as error:
            # Nobody has thought of it; the archive goes on.
            name = type(error).__name__
            log.error("signatures of what came are verified later: unexpected %s", name)
        await pause()


async def _verify_some(index: Index, book: SignatureBook, check: MarkedCheck) -> bool:
    """Whether there may be more."""
    waiting = await book.waiting(_AT_ONCE)
    known = await index.get(waiting)
    for uid in waiting:
        stored = known.get(uid)
        is_marked = False
        if stored is not None:
            try:
                is_marked = bool(await check.verify(stored))
            except StorageError:
                raise
            except (IsocenterError, KeyError) as error:
                log.warning(
                    "instance %s: its signatures cannot be verified: %s", uid, type(error).__name__
                )
            except Exception as error:
                # Of an object that nobody thought of; no traceback, which may show values.
                log.error(
                    "instance %s: its signatures cannot be verified: unexpected %s",
                    uid,
                    type(error).__name__,
                )
        if not is_marked:
            digest = "" if stored is None else stored.digest
            await book.note(uid, SignatureMark(), digest=digest)
    return len(waiting) == _AT_ONCE


def mark_of(signatures: Sequence[VerifiedSignature]) -> SignatureMark:
    """The mark of an object with such signatures."""
    if not signatures:
        return SignatureMark()
    worst = max(signatures, key=lambda one: _STATES.index(one.state.value))
    signer = worst.signer
    name = (signer.common_name or signer.organization) if signer is not None else ""
    return SignatureMark(
        state=worst.state.value,
        signatures=len(signatures),
        signer=name[:_LONGEST],
        purpose=worst.purpose[:_LONGEST],
    )
