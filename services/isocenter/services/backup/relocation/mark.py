"""Mark of an unfinished relocation, which keeps a server from starting."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import orjson

from isocenter.engine.fast_init import dataclass
from isocenter.services.backup.manifest import BackupError
from isocenter.services.errors import text_of
from isocenter.services.system.private_files import PRIVATE_FILE, match_owner, write_file

#: In a data directory: a relocation into it is under way, or was cut short.
RELOCATING: Final = "relocating.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class RelocationMark:
    """From where, and to where.

    Attributes:
        origin, target: what the command was told, for whoever reads it.
        archive: which archive is relocated: data directory, database and object store.
    """

    origin: str
    target: str
    archive: str


def read_mark(data_dir: Path) -> RelocationMark | None:
    """The mark of a data directory; None: it has none.

    Raises:
        BackupError: it cannot be read.
    """
    path = data_dir / RELOCATING
    try:
        members = orjson.loads(path.read_bytes())
        return RelocationMark(
            origin=str(members["from"]),
            target=str(members["to"]),
            archive=str(members["archive"]),
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = text_of(error) if isinstance(error, OSError) else "it is damaged"
        raise BackupError(
            f"{path} cannot be read ({what}): a relocation into {data_dir} is not finished; "
            "remove that folder and what the relocation has written, and begin anew"
        ) from error


def write_mark(data_dir: Path, mark: RelocationMark) -> None:
    """Durably.

    Raises:
        OSError: it cannot be written.
    """
    text = orjson.dumps({"from": mark.origin, "to": mark.target, "archive": mark.archive})
    path = data_dir / RELOCATING
    write_file(path, text, PRIVATE_FILE, replace=True)
    match_owner(data_dir, path)


def remove_mark(data_dir: Path) -> None:
    """The relocation is finished."""
    (data_dir / RELOCATING).unlink(missing_ok=True)


def check_not_relocating(data_dir: Path) -> None:
    """Raises:
    BackupError: a relocation into this data directory is not finished.
    """
    mark = read_mark(data_dir)
    if mark is not None:
        raise BackupError(
            f"a relocation into {data_dir} is not finished; stop the server that it comes from, "
            f"and finish it with isocenter migrate --from {mark.origin} --to {mark.target} --final"
        )
