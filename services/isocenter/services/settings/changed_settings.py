"""Changed settings, which somebody changed while a server ran, in its data directory.

They stand between the configuration file and the environment: what stands here wins over the file,
and is won over by variables and options.  Each says who changed it, and when.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from isocenter.engine.fast_init import dataclass
from isocenter.services.errors import text_of
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.former_names import in_current_names
from isocenter.services.system.file_lock import directory_lock
from isocenter.services.system.private_files import (
    PRIVATE_FILE,
    make_private_directory,
    match_owner,
    write_file,
)

FILE: Final = "settings.json"
_FORMAT: Final = 1
_MOST_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedSetting:
    """One of them.

    Attributes:
        value: as a TOML file would have it.
        by: who changed it.
        at: when, as ISO 8601 writes it; empty: it is not changed yet.
    """

    value: object
    by: str
    at: str

    @property
    def source(self) -> str:
        """Where the value came from, for people."""
        return f"changed by {self.by} on {self.at}" if self.at else "request"


#: By key.
Changes = Mapping[str, ChangedSetting]


class ChangedSettings:
    """The changed settings of a data directory.  Every call reads what is there now."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / FILE

    def read(self) -> Changes:
        """All of them.

        Raises:
            SettingsError: the file cannot be read, or is none of ours.
        """
        try:
            with self.path.open("rb") as file:
                content = file.read(_MOST_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            # Whoever may not look into the data directory has nothing to do with it.
            return {}
        except OSError as error:
            raise SettingsError("", str(self.path), text_of(error)) from error
        try:
            return changes_of_text(content)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise SettingsError(
                "", str(self.path), "cannot be read; correct it, or restore a backup"
            ) from error

    def change(self, edit: Callable[[Changes], Changes]) -> Changes:
        """Replace them by what *edit* makes of them.

        Raises:
            SettingsError: from *edit*, or they cannot be read or written; nothing has changed.
        """
        try:
            make_private_directory(self.folder)
            match_owner(self.folder.parent, self.folder)
            with directory_lock(self.folder):
                changes = edit(self.read())
                write_file(self.path, text_of_changes(changes), PRIVATE_FILE, replace=True)
        except orjson.JSONEncodeError as error:
            raise SettingsError("", str(self.path), f"cannot keep that: {error}") from error
        except OSError as error:
            raise SettingsError(
                "",
                str(self.path),
                f"{text_of(error)}; let the user who runs isocenter write it, or give the data "
                "directory that is meant",
            ) from error
        return changes


def changes_of_text(content: bytes) -> Changes:
    """Changes as a file says them; raises what parsers raise."""
    if len(content) > _MOST_BYTES:
        raise ValueError
    document: Any = orjson.loads(content)
    if document["format"] != _FORMAT:
        raise ValueError
    changes = {
        str(key): ChangedSetting(value=one["value"], by=str(one["by"]), at=str(one["at"]))
        for key, one in document["settings"].items()
    }
    # Of two that have become one the later change holds.
    return in_current_names(dict(sorted(changes.items(), key=lambda pair: pair[1].at)))


def text_of_changes(changes: Changes) -> bytes:
    """Changes as a file says them, always in the same words."""
    settings = {
        key: {"value": one.value, "by": one.by, "at": one.at}
        for key, one in sorted(changes.items())
    }
    document = {"format": _FORMAT, "settings": settings}
    return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"
