"""Making of corrected forms: the original streamed through the corrections that hold."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.coercion.coercer import Coercer
from isocenter.services.archive.coercion.edits import ModificationReason
from isocenter.services.archive.corrections.ports import CorrectionBook, CorrectionWork
from isocenter.services.archive.corrections.values import Correction
from isocenter.services.archive.file_import import PIECE
from isocenter.services.archive.ports import InstanceRecord, StagedObject
from isocenter.services.archive.second_forms import (
    GOODBYE_SECONDS,
    published_forms,
    stored_of,
    write_form,
)
from isocenter.services.archive.stored_objects import stored_object

_NOTHING: Final = frozenset[int]()


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What was made of one object, on its way to become durable.

    Attributes:
        record: what the index is to say of it.
        staged: None: it is what it was when it came.
    """

    work: CorrectionWork
    record: InstanceRecord
    staged: StagedObject | None = None


async def make_form(
    archive: Archive,
    work: CorrectionWork,
    *,
    breaks_signatures: bool,
    token: Callable[[], str],
) -> Form:
    """Make the corrected form of one object; nothing, where it is as the corrections want it.

    Raises:
        DataSetError, CoercionError, StoreError: they cannot be applied to it.
        KeyError, StorageError: the original cannot be read, or the form not be written.
    """
    original = work.original
    if not work.corrections:
        return Form(work=work, record=original)
    chain = [
        _coercer(archive, original.transfer_syntax_uid, correction, breaks_signatures)
        for correction in work.corrections
    ]
    await archive.room.check(original.size)
    staged = await archive.store.stage()
    try:
        record = await write_form(
            archive,
            original,
            staged,
            original.transfer_syntax_uid,
            _passed_through(archive, original, chain),
            token(),
        )
        if not any(coercer.changed for coercer in chain):
            await staged.discard()
            return Form(work=work, record=original)
        await staged.finish(record.object_key)
    except BaseException:
        with trio.move_on_after(GOODBYE_SECONDS, shield=True):
            await staged.discard()
        raise
    return Form(work=work, record=record, staged=staged)


async def keep_forms(archive: Archive, book: CorrectionBook, forms: Sequence[Form]) -> None:
    """Make forms durable and note them, all in one round.

    Raises:
        StorageError: they cannot be; nothing of them is left.
    """
    new = [(form.staged, stored_of(form.record)) for form in forms if form.staged is not None]
    async with published_forms(archive, new):
        wanted = await book.made([(form.work, form.record) for form in forms])
        # What other corrections have overtaken is taken back.
        await archive.store.remove(
            [
                form.record.object_key
                for form, is_wanted in zip(forms, wanted, strict=True)
                if form.staged is not None and not is_wanted
            ]
        )


def _coercer(
    archive: Archive, transfer_syntax_uid: str, correction: Correction, breaks_signatures: bool
) -> Coercer:
    return Coercer(
        transfer_syntax_uid,
        lambda _: correction.edits,
        _NOTHING,
        system=archive.intake.modifying_system,
        source="",
        now=partial(_moment, correction.at),
        limits=archive.limits,
        undeclared=archive.intake.undeclared,
        reason=ModificationReason.CORRECT,
        breaks_signatures=breaks_signatures,
    )


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


async def _passed_through(
    archive: Archive, original: InstanceRecord, chain: Sequence[Coercer]
) -> AsyncGenerator[Buffer, None]:
    """The data set as it is when all of *chain* have seen it."""
    item = stored_object(stored_of(original), archive.open)
    async with await item.open() as reader:
        offset = original.data_set_offset
        while piece := await reader.read(offset, PIECE):
            offset += len(piece)
            for part in await trio.to_thread.run_sync(_feed, chain, [piece]):
                yield part
    for place, coercer in enumerate(chain):
        for part in _feed(chain[place + 1 :], coercer.finish()):
            yield part


def _feed(chain: Sequence[Coercer], parts: Sequence[Buffer]) -> Sequence[Buffer]:
    for coercer in chain:
        parts = [out for part in parts for out in coercer.feed(part)]
    return parts
