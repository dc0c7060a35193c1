"""Digital signatures of stored objects, verified (PS3.15 Annex C).

Who is trusted stands in files, which are read anew each time: they are short, and a revocation list
is good for some days only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Final

import trio

from isocenter.engine.dataset.walker import Tolerance
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.dicom.data_set_file import DataSetFile, open_data_set
from isocenter.services.dicom.data_set_tree import DataSetTree
from isocenter.services.dicom.signatures.algorithms import SignatureError
from isocenter.services.dicom.signatures.certificates import (
    Trust,
    read_certificates,
    read_revocation_list,
)
from isocenter.services.dicom.signatures.verification import VerifiedSignature, verify_signatures
from isocenter.services.errors import StorageError, text_of

#: Bytes that are copied at once.
_PIECE: Final = 1 << 20
#: Signatures are verified of so many objects at once; each is read whole.
_AT_ONCE: Final = 2
_SIGNATURES: Final = "FFFAFFFA"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustFiles:
    """Files with the certificates of those who are believed, in PEM or DER.

    Attributes:
        trusted: authorities, or signers themselves; none: nobody asks who signed.
        intermediates: what may stand between them and a signer.
        revocation_lists: each signer has to be in the reach of one, where there are any.
        time_stamping: authorities of time stamps; none: those of *trusted*.
        accepts_weak: MD5, SHA-1 and RIPEMD-160 are as good as others.
    """

    trusted: Sequence[Path] = ()
    intermediates: Sequence[Path] = ()
    revocation_lists: Sequence[Path] = ()
    time_stamping: Sequence[Path] = ()
    accepts_weak: bool = False

    def read(self) -> tuple[Trust | None, Trust | None]:
        """Whom to believe for signatures, and for time stamps; None: nobody was named.

        Raises:
            SignatureError: a file cannot be read; says which.
        """
        chain = list(_certificates(self.intermediates))
        lists = [read_revocation_list(_raw(path)) for path in self.revocation_lists]
        trust = None
        if self.trusted:
            trust = Trust(_certificates(self.trusted), chain, lists)
        if not self.time_stamping:
            return trust, trust
        stampers = _certificates(self.time_stamping)
        # Their authorities are others, and need not be those that the lists are about.
        return trust, Trust(stampers, chain, lists, needs_reach=False)


class SignatureCheck:
    """Verifies the signatures of stored objects."""

    def __init__(self, archive: Archive, files: TrustFiles) -> None:
        self._archive = archive
        self._files = files
        self._slots = trio.CapacityLimiter(_AT_ONCE)

    async def verify(self, stored: StoredInstance) -> list[VerifiedSignature]:
        """Its signatures; none: it has none.

        Raises:
            KeyError: the object is not there any more.
            DataSetError: it cannot be read.
            SignatureError: a file of certificates cannot be read.
            StorageError: the store fails.
        """
        async with self._slots:
            try:
                with TemporaryFile() as file:
                    async with await stored_object(stored, self._archive.open).open() as reader:
                        for offset in range(0, reader.size, _PIECE):
                            piece = await reader.read(offset, _PIECE)
                            await trio.to_thread.run_sync(file.write, piece)
                    return await trio.to_thread.run_sync(self._verified, file)
            except OSError as error:
                raise StorageError(
                    f"its signatures cannot be verified now: {text_of(error)} (folder of temporary "
                    "files, TMPDIR)"
                ) from error

    def _verified(self, file: IO[bytes]) -> list[VerifiedSignature]:
        file.flush()
        trust, timestamp_trust = self._files.read()
        with _opened(file) as (data_set, tree):
            return list(
                verify_signatures(
                    tree,
                    transfer_syntax_uid=data_set.head.transfer_syntax_uid,
                    now=datetime.now(UTC),
                    trust=trust,
                    timestamp_trust=timestamp_trust,
                    accepts_weak=self._files.accepts_weak,
                    # Who has asked may have gone meanwhile, and its pixels are a gigabyte.
                    checkpoint=trio.from_thread.check_cancelled,
                )
            )


def is_signed(model: Mapping[str, Any]) -> bool:
    """Whether a data set, as DICOM JSON, has signatures: its own, or those of items."""
    if _SIGNATURES in model:
        return True
    return any(
        is_signed(item)
        for element in model.values()
        if isinstance(element, Mapping) and element.get("vr") == "SQ"
        for item in element.get("Value") or ()
        if isinstance(item, Mapping)
    )


@contextmanager
def _opened(file: IO[bytes]) -> Iterator[tuple[DataSetFile, DataSetTree]]:
    with open_data_set(file, tolerance=Tolerance.USUAL) as data_set:
        yield data_set, DataSetTree(data_set.data, data_set.encoding)


def _certificates(paths: Sequence[Path]) -> Iterator[Any]:
    for path in paths:
        try:
            yield from read_certificates(_raw(path))
        except SignatureError as error:
            raise SignatureError(f"{path}: {error}") from error


def _raw(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SignatureError(f"{path}: {error.strerror}") from error
