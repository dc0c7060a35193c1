"""Objects made of others when somebody opens them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Self

import trio

from isocenter.engine.dataset import DataSetError, write_file_meta
from isocenter.engine.uid import UNCOMPRESSED
from isocenter.services.dicom.kept_objects import KeptObjects
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.pixels.errors import PixelError
from isocenter.services.dicom.pixels.frames import FileReader
from isocenter.services.dicom.pixels.transcoder import SendableObject, Transcoder
from isocenter.services.errors import StorageError, text_of

if TYPE_CHECKING:
    from isocenter.services.dicom.pixels.transcoding import TranscodedObject


class MadeReader(FileReader):
    """Reads what was made, and ends it."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        super().__init__(file, size)  # type: ignore[arg-type]  # an unbuffered file
        self._made = file

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the file go."""
        self._made.close()


async def copy_object(item: DicomObject | TranscodedObject, file: IO[bytes]) -> int:
    """Write a Part 10 file of *item*; where the data set begins in it.

    Raises:
        StorageError, KeyError, OSError: it cannot be read, or written.
    """
    meta = write_file_meta(item.sop_class_uid, item.sop_instance_uid, item.transfer_syntax_uid)
    await trio.to_thread.run_sync(file.write, meta)
    async for part, _ in item.parts():
        await trio.to_thread.run_sync(file.write, part)
    await trio.to_thread.run_sync(file.flush)
    return len(meta)


async def in_syntax(
    item: DicomObject, target: str, transcoder: Transcoder | None, kept: KeptObjects
) -> DicomObject:
    """*item* in the transfer syntax *target*, made now and *kept* for whoever opens it; as it is,
    where it cannot become that.  One that cannot be read says so when it is opened.
    """
    source, uid = item.transfer_syntax_uid, item.sop_instance_uid
    is_converted = source in UNCOMPRESSED and target in UNCOMPRESSED
    if target == source or (transcoder is None and not is_converted):
        return item

    @asynccontextmanager
    async def made() -> AsyncIterator[SendableObject]:
        if is_converted or transcoder is None:
            yield item
            return
        async with transcoder.made(item, target) as ready:
            yield ready

    async def make() -> ObjectReader:
        nonlocal uid
        file = TemporaryFile()  # noqa: SIM115 - its reader closes it
        try:
            async with made() as ready, aclosing(ready.parts(target)) as parts:
                uid = ready.sop_instance_uid  # another one, where something of it is lost
                async for part, _ in parts:
                    await trio.to_thread.run_sync(file.write, part)
            await trio.to_thread.run_sync(file.flush)
            return MadeReader(file, file.seek(0, 2))
        except OSError as error:
            file.close()
            raise StorageError(
                f"it cannot be transcoded now: {text_of(error)} (folder of temporary files, TMPDIR)"
            ) from error
        except BaseException:
            file.close()
            raise

    ready = kept.keeping(
        replace(item, open=make, transfer_syntax_uid=target, data_set_offset=0, digest="")
    )
    try:
        async with await ready.open():
            pass
    except PixelError:
        return item
    except (DataSetError, StorageError, KeyError, OSError):
        pass  # it is told of when its turn comes
    return replace(ready, sop_instance_uid=uid)
