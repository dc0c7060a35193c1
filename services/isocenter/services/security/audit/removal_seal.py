"""Seal of removed parts of a trail, so that the rest stays verifiable.

``removed.json`` names the last record that was removed with its digest, which the first record
that is left has to follow, how many there were, and from when to when.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from isocenter.services.security.audit.hash_chain import Position, RecordDigest, RecordError

REMOVED_FILE: Final = "removed.json"


@dataclass(frozen=True, slots=True)
class Removal:
    """What was removed, all in all.

    Attributes:
        last: the last record of it.
        since, until: when the first and the last of them were made.
    """

    last: Position
    records: int
    since: str
    until: str

    def __str__(self) -> str:
        return f"{self.records} records up to {self.last.sequence}, {self.since} to {self.until}"


def read_removal(folder: Path, seal: RecordDigest) -> tuple[Removal, bool] | None:
    """What the seal says, and whether it is keyed; None: nothing was ever removed.

    Raises:
        RecordError: it was changed, or is none; see `RecordDigest.open`.
    """
    try:
        line = (folder / REMOVED_FILE).read_bytes()
    except FileNotFoundError:
        return None
    members, _, is_keyed = seal.open(line)
    match members:
        case {
            "removed": int(sequence), "digest": str(digest), "records": int(records),
            "since": str(since), "until": str(until),
        }:  # fmt: skip
            return Removal(Position(sequence, digest), records, since, until), is_keyed
        case _:
            raise RecordError("not the seal of a removal")


def encode_removal(removal: Removal, seal: RecordDigest) -> bytes:
    """The content of the file, sealed as records are."""
    members = {
        "removed": removal.last.sequence,
        "digest": removal.last.digest,
        "records": removal.records,
        "since": removal.since,
        "until": removal.until,
    }
    line, _ = seal.close(orjson.dumps(members)[:-1])
    return line
