"""One generation of a backup: its folder, manifest and lists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.backup.content_files import (
    digest_of,
    write_synced,
)
from isocenter.services.backup.manifest import (
    Entry,
    Manifest,
    read_list,
    read_manifest,
)
from isocenter.services.errors import text_of

_SUMS: Final = "SHA256SUMS"
_SUM: Final = re.compile(r"([0-9a-f]{64}) [ *](.+)")


@dataclass(frozen=True, slots=True)
class Generation:
    """One backup in a folder."""

    name: str
    folder: Path

    @property
    def objects(self) -> Path:
        return self.folder / "objects.jsonl"

    @property
    def files(self) -> Path:
        return self.folder / "files.jsonl"

    @property
    def index(self) -> Path:
        return self.folder / "index.db"

    @property
    def settings(self) -> Path:
        return self.folder / "settings"

    @property
    def keys(self) -> Path:
        return self.folder / "keys"

    def manifest(self) -> Manifest:
        """Raises BackupError: it cannot be read."""
        return read_manifest(self.folder / "manifest.json")

    def entries(self) -> Iterator[Entry]:
        """All files of the archive but the index."""
        yield from read_list(self.objects)
        yield from read_list(self.files)

    def seal(self) -> None:
        """Write the sums of everything in the folder, as sha256sum does."""
        lines = [f"{digest_of(path)}  {name}\n" for name, path in self._own_files()]
        write_synced(self.folder / _SUMS, "".join(lines).encode())

    def check_own_files(self) -> list[str]:
        """What is wrong with the files of the folder itself, a line each."""
        try:
            text = (self.folder / _SUMS).read_text("utf-8")
        except (OSError, ValueError) as error:
            return [f"{self.name}/{_SUMS}: {getattr(error, 'strerror', None) or 'damaged'}"]
        wanted: dict[str, str] = {}
        for line in text.splitlines():
            match = _SUM.fullmatch(line)
            if match is None:
                return [f"{self.name}/{_SUMS}: damaged"]
            wanted[match[2]] = match[1]
        faults = []
        present = dict(self._own_files())
        for name in sorted({*wanted, *present}):
            if name not in present:
                faults.append(f"{self.name}/{name}: is gone")
            elif name not in wanted:
                faults.append(f"{self.name}/{name}: is not of the backup")
            else:
                try:
                    if digest_of(present[name]) != wanted[name]:
                        faults.append(f"{self.name}/{name}: was changed")
                except OSError as error:
                    faults.append(f"{self.name}/{name}: {text_of(error)}")
        return faults

    def _own_files(self) -> Iterator[tuple[str, Path]]:
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and path != self.folder / _SUMS:
                yield path.relative_to(self.folder).as_posix(), path


def contents_of(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Entries, without those whose content was the one before's."""
    last = ""
    for entry in entries:
        if entry.sha256 != last:
            yield entry
        last = entry.sha256
