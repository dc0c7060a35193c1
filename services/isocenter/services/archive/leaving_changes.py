"""Attributes changed on the way out, for one destination."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Final

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import DataSetError
from isocenter.engine.errors import IsocenterError
from isocenter.engine.limits import Limits
from isocenter.services.archive.made_objects import MadeReader
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.errors import StorageError, text_of

if TYPE_CHECKING:
    from isocenter.services.archive.coercion.coercer import Coercer
    from isocenter.services.archive.coercion.edits import Edit

_NOTHING: Final = frozenset[int]()


class NotChangedError(DataSetError):
    """An object that does not leave, since it cannot be changed as a rule wants it."""

    def __init__(self, why: str) -> None:
        super().__init__(f"not changed: {why}", 0)
        self.args = (f"not changed: {why}",)


def changed(
    item: DicomObject,
    edits: Sequence[Edit],
    *,
    system: str,
    limits: Limits,
    undeclared: tuple[str, ...] = (),
) -> DicomObject:
    """*item* with *edits* applied; opening it makes it.

    What was there before stands in its Original Attributes Sequence (0400,0561).

    Opening raises `NotChangedError` where it cannot be, `StorageError` where there is no room for
    it, and what opening *item* raises.
    """
    from isocenter.services.archive.coercion.coercer import Coercer

    async def open_object() -> ObjectReader:
        coercer = Coercer(
            item.transfer_syntax_uid,
            lambda _: edits,
            _NOTHING,
            system=system,
            source="",
            now=lambda: datetime.now().astimezone(),
            limits=limits,
            undeclared=undeclared,
        )
        made = await _make(item, coercer)
        return MadeReader(made, made.seek(0, 2))

    # Another time it says another time.
    return replace(item, open=open_object, data_set_offset=0, digest="")


async def _make(item: DicomObject, coercer: Coercer) -> IO[bytes]:
    try:
        file = TemporaryFile()  # noqa: SIM115 - its reader closes it
        try:
            async with aclosing(item.parts()) as parts:
                async for part, _ in parts:
                    await trio.to_thread.run_sync(_write, coercer.feed, part, file)
            await trio.to_thread.run_sync(_write, lambda _: coercer.finish(), b"", file)
            await trio.to_thread.run_sync(file.flush)
        except BaseException:
            file.close()
            raise
    except OSError as error:
        raise StorageError(
            f"it cannot be changed now: {text_of(error)} (folder of temporary files, TMPDIR)"
        ) from error
    return file


def _write(feed: Callable[[Buffer], Sequence[Buffer]], part: Buffer, file: IO[bytes]) -> None:
    try:
        made = feed(part)
    except DataSetError:
        raise
    except (IsocenterError, ValueError) as error:
        # What is wrong with the object, or with the edit; neither shows a value.
        raise NotChangedError(str(error)) from error
    for out in made:
        file.write(out)
