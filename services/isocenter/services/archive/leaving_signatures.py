"""Digital signatures that objects are given on their way to some (PS3.15 Annex C)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from tempfile import TemporaryFile
from typing import IO

import trio

from isocenter.services.archive.made_objects import MadeReader, copy_object
from isocenter.services.archive.object_signing import (
    ObjectSigned,
    sign_object,
    told_as_not_signed,
)
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.signatures.signing import Signer
from isocenter.services.errors import StorageError, text_of
from isocenter.services.notices import Notices

log = logging.getLogger("isocenter.archive")


class LeavingSignatures:
    """Signs what leaves for some AE titles and hosts.

    Args:
        destinations: whose objects are signed.
        signer: signs; asked each time, as its certificate may have been exchanged.
        notices: told of each signature; None: nobody is.
    """

    def __init__(
        self,
        destinations: Iterable[str],
        signer: Callable[[], Signer],
        notices: Notices | None = None,
    ) -> None:
        self._destinations = frozenset(map(_compared, destinations))
        self._signer = signer
        self._notices = notices or Notices()

    def signed(self, item: DicomObject, destination: str) -> DicomObject:
        """*item* as *destination* is given it; opening it signs it.

        Opening raises `NotSignedError` where it cannot be, and what opening *item* raises.
        """
        if _compared(destination) not in self._destinations:
            return item

        async def open_object() -> ObjectReader:
            made = await self._make(item, destination)
            return MadeReader(made, made.seek(0, 2))

        # Another time it is another signature.
        return replace(item, open=open_object, data_set_offset=0, digest="")

    async def _make(self, item: DicomObject, destination: str) -> IO[bytes]:
        try:
            target = TemporaryFile()  # noqa: SIM115 - its reader closes it
            try:
                with TemporaryFile() as source:
                    await copy_object(item, source)
                    uid = await trio.to_thread.run_sync(self._sign, source, target)
            except BaseException:
                target.close()
                raise
        except OSError as error:
            raise StorageError(
                f"it cannot be signed now: {text_of(error)} (folder of temporary files, TMPDIR)"
            ) from error
        self._notices.publish(
            ObjectSigned(
                sop_instance_uid=item.sop_instance_uid, signature_uid=uid, destination=destination
            )
        )
        return target

    def _sign(self, source: IO[bytes], target: IO[bytes]) -> str:
        """The UID of the signature."""
        with told_as_not_signed():
            signer = self._signer()
        return sign_object(source, target, signer)


def _compared(destination: str) -> str:
    """Names of hosts are the same in capitals, and with a dot at their end."""
    return destination.casefold().rstrip(".")
