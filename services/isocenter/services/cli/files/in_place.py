"""Files changed in their place, and what they were kept beside them."""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from isocenter.services.cli.files.file_tool import STANDARD, InputFile, Plan
from isocenter.services.cli.support.options import UsageError

_BACKUP: Final = ".bak"


def in_place_plan(arguments: argparse.Namespace) -> Plan | None:
    """Where the results go; None: into the place of each file."""
    paths: list[str] = arguments.paths
    target: str | None = arguments.output
    folders = [path for path in paths if path != STANDARD and os.path.isdir(path)]
    if target is None and STANDARD in paths:
        if len(paths) > 1:
            raise UsageError("standard input among other files: name a folder with -o")
        target = STANDARD
    if target is None:
        return None
    many = len(paths) > 1 or bool(folders)
    if target == STANDARD and many:
        raise UsageError("several files need a folder; name one with -o")
    is_folder = target != STANDARD and (many or os.path.isdir(target))
    if is_folder and os.path.exists(target) and not os.path.isdir(target):
        raise UsageError(f"{target} is a file; several results need a folder")
    return Plan(tuple(paths), target, is_folder, "", many)


def without_backups(files: Iterator[InputFile]) -> Iterator[InputFile]:
    """*files* without those that were kept."""
    return (file for file in files if not (file.is_found and file.path.endswith(_BACKUP)))


def back_up(path: str) -> None:
    """Keep what is at *path* beside it; what was kept there before goes."""
    place = f"{path}{_BACKUP}"
    staged = f"{place}.{secrets.token_hex(8)}"
    try:
        try:
            os.link(os.path.realpath(path), staged)
        except OSError:
            shutil.copy2(path, staged)  # a file system without links
        os.replace(staged, place)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(staged)
