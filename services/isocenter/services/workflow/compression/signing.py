"""Signatures that stored objects are kept with, made and tried out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from tempfile import TemporaryFile
from typing import IO

import trio

from isocenter.services.archive.made_objects import copy_object
from isocenter.services.archive.object_signing import is_same_without, sign_object
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.pixels.frames import FileReader
from isocenter.services.dicom.pixels.transcoding import TranscodedObject
from isocenter.services.dicom.signatures.algorithms import SignatureError
from isocenter.services.dicom.signatures.signing import Signer


class SignedForm:
    """An object with a signature, made of another form of it.

    Attributes:
        before: the object without it; both can be read while they are in use.
        item: the object with it.
        signature_uid: of the signature.
    """

    def __init__(
        self,
        file: IO[bytes],
        before: DicomObject,
        item: DicomObject,
        uid: str,
    ) -> None:
        self._file = file
        self.before = before
        self.item = item
        self.signature_uid = uid

    async def is_what_was(self, kept: DicomObject) -> bool:
        """Whether *kept*, read back, is what was signed, byte for byte, but for the signature.

        Raises:
            DataSetError, StorageError, KeyError, OSError: it cannot be read.
        """
        with TemporaryFile() as file:
            await copy_object(kept, file)
            return await trio.to_thread.run_sync(
                is_same_without, file, self.signature_uid, self._file
            )


@asynccontextmanager
async def signed_form(
    item: DicomObject | TranscodedObject, signer: Callable[[], Signer]
) -> AsyncIterator[SignedForm]:
    """*item* with a signature, in temporary files.

    Raises:
        NotSignedError: it cannot be signed.
        SignatureError: nothing can be signed now.
        StorageError, KeyError, OSError: it cannot be read or written now.
    """
    who = await trio.to_thread.run_sync(signer)
    _check_in_force(who)
    with TemporaryFile() as before, TemporaryFile() as target:
        offset = await copy_object(item, before)
        uid = await trio.to_thread.run_sync(sign_object, before, target, who)
        yield SignedForm(before, _object_in(before, item, offset), _object_in(target, item, 0), uid)


def _object_in(
    file: IO[bytes], item: DicomObject | TranscodedObject, data_set_offset: int
) -> DicomObject:
    size = file.seek(0, 2)

    async def open_object() -> ObjectReader:
        return FileReader(file, size)  # type: ignore[arg-type]  # an unbuffered file

    return DicomObject(
        sop_class_uid=item.sop_class_uid,
        sop_instance_uid=item.sop_instance_uid,
        transfer_syntax_uid=item.transfer_syntax_uid,
        open=open_object,
        data_set_offset=data_set_offset,
        name=item.name,
    )


def _check_in_force(signer: Signer) -> None:
    """A signature that stays has to be worth something.

    Raises:
        SignatureError: its certificate is not in force.
    """
    certificate, now = signer.certificate, datetime.now(UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise SignatureError(
            "signatures.sign_certificate is valid from "
            f"{certificate.not_valid_before_utc:%Y-%m-%d} to "
            f"{certificate.not_valid_after_utc:%Y-%m-%d} only; put another one there"
        )
