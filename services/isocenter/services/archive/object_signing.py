"""Signing of whole objects, file to file (PS3.15 Annex C)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import IO

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import DataSetError
from isocenter.engine.dataset.walker import Tolerance
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.data_set_file import open_data_set
from isocenter.services.dicom.data_set_tree import DataSetTree, write_tree
from isocenter.services.dicom.signatures.signing import Signer, remove, sign
from isocenter.services.errors import StorageError
from isocenter.services.notices import WingNotice


class NotSignedError(DataSetError):
    """An object that cannot be signed; the message says why."""

    def __init__(self, why: str) -> None:
        super().__init__(f"not signed: {why}", 0)
        self.args = (f"not signed: {why}",)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectSigned(WingNotice):
    """An object was given a signature of ours.

    Attributes:
        destination: for whom it was signed on its way out; empty: it is kept so.
        rule: that has it kept so.
    """

    study_instance_uid: str = ""
    sop_instance_uid: str
    signature_uid: str
    destination: str = ""
    rule: str = ""


def sign_object(source: IO[bytes], target: IO[bytes], signer: Signer) -> str:
    """Write the data set of a file with a signature; the UID of the signature.

    Nothing of it is changed but the two sequences of signatures.

    Raises:
        NotSignedError: it cannot be signed.
        StorageError, OSError: a file cannot be read or written.
    """
    with told_as_not_signed(), open_data_set(source, tolerance=Tolerance.USUAL) as opened:
        tree = DataSetTree(opened.data, opened.encoding)
        made = sign(
            tree,
            tree.root,
            signer,
            transfer_syntax_uid=opened.head.transfer_syntax_uid,
            now=datetime.now(UTC),
        )
        tree.mend_group_lengths()
        write_tree(tree, target, deflated=opened.encoding.deflated)
        target.flush()
    return made.uid


@contextmanager
def told_as_not_signed() -> Iterator[None]:
    """What keeps an object from being signed, as `NotSignedError`; a file or a store that fails
    may be there again, and stays what it is."""
    try:
        yield
    except (StorageError, OSError):
        raise
    except IsocenterError as error:
        raise NotSignedError(str(error)) from error
    except Exception as error:
        # Of an object that nobody thought of: a KeyError, say, would mean that it is gone.  Its
        # text may quote values.
        raise NotSignedError(f"unexpected {type(error).__name__}") from None


def is_same_without(signed: IO[bytes], signature_uid: str, before: IO[bytes]) -> bool:
    """Whether a file is another one, byte for byte of the data set, when a signature of it is
    taken away (before deflation, which has many forms).

    Raises:
        DataSetError: one of them cannot be read.
        OSError: the same.
    """
    with (
        open_data_set(signed, tolerance=Tolerance.USUAL) as made,
        open_data_set(before, tolerance=Tolerance.USUAL) as came,
    ):
        tree = DataSetTree(made.data, made.encoding)
        remove(tree, signature_uid)
        tree.mend_group_lengths()
        return _digest(tree.pieces()) == _digest([came.data])


def _digest(pieces: Iterable[Buffer]) -> bytes:
    found = hashlib.sha256()
    for piece in pieces:
        found.update(piece)
    return found.digest()
