"""What the SCU examples share: the files they send, and their command line.

Nothing of a driver is here: how bytes move is what the examples differ in.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from isocenter.engine import (
    IMPLICIT_VR_LITTLE_ENDIAN,
    VERIFICATION,
    AssociateRequest,
    CStoreRequest,
    IsocenterError,
    StatusClass,
    associate_request,
    classify,
    describe_status,
    parts_of,
)
from isocenter.engine.dataset import FILE_HEAD_LENGTH, FileMeta, read_file_meta

#: In bytes.
PART_LENGTH = 262_144


@dataclass(frozen=True)
class Arguments:
    """What the command line says."""

    host: str
    port: int
    files: list[Path]
    request: AssociateRequest


def file_meta(file: BinaryIO) -> FileMeta:
    """The File Meta Information of a Part 10 file."""
    return read_file_meta(file.read(FILE_HEAD_LENGTH))


def store_request(meta: FileMeta, message_id: int) -> CStoreRequest:
    """The C-STORE-RQ for the object of a file."""
    return CStoreRequest(
        message_id=message_id,
        affected_sop_class_uid=meta.media_storage_sop_class_uid,
        affected_sop_instance_uid=meta.media_storage_sop_instance_uid,
    )


def data_set_parts(file: BinaryIO, meta: FileMeta) -> Iterator[tuple[bytes, bool]]:
    """What stands behind the File Meta Information: parts, and whether each is the last.

    Raises:
        OSError: the file is shorter than it was.
    """
    size = os.fstat(file.fileno()).st_size
    file.seek(meta.data_set_offset)
    for part in parts_of(meta.data_set_offset, size, PART_LENGTH):
        data = file.read(part.length)
        if len(data) != part.length:
            raise OSError(f"{file.name} is shorter than it was")
        yield data, part.is_last


def proposals(paths: Iterable[Path]) -> list[tuple[str, list[str]]]:
    """The presentation contexts that C-ECHO and these files need, each once."""
    found = {(VERIFICATION, IMPLICIT_VR_LITTLE_ENDIAN): None}
    for path in paths:
        with path.open("rb") as file:
            meta = file_meta(file)
        found[meta.media_storage_sop_class_uid, meta.transfer_syntax_uid] = None
    return [(abstract_syntax, [syntax]) for abstract_syntax, syntax in found]


def arguments_of(about: str | None, operations: int = 1) -> Arguments:
    """What the command line says, and the A-ASSOCIATE-RQ that follows from it.

    Raises:
        IsocenterError, OSError: a file cannot be read, or is none of DICOM.
    """
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--called", default="ANY-SCP", help="AE title of the peer")
    parser.add_argument("--calling", default="EXAMPLE", help="AE title of ours")
    given = parser.parse_args()
    request = associate_request(
        given.called, given.calling, proposals(given.files), operations_invoked=operations
    )
    return Arguments(given.host, given.port, given.files, request)


def tell(what: str, status: int) -> bool:
    """Print the status of an operation; whether it is no failure."""
    print(f"{what}: {status:04X}H {describe_status(status)}", flush=True)
    return classify(status) is not StatusClass.FAILURE


def exit_code_of(converse: Callable[[], bool]) -> int:
    """0 when the peer took everything, with or without a warning; else 1, and why."""
    try:
        return 0 if converse() else 1
    except KeyboardInterrupt:
        return 130
    except (IsocenterError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
