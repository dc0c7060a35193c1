"""Parts that commands which write directories of file-sets share."""

from __future__ import annotations

import argparse

from isocenter.services.cli.support.deletion_output import counted
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.dicom.file_set.file_ids import is_file_set_id
from isocenter.services.dicom.file_set.file_set_builder import Additions


def file_set_id(text: str) -> str:
    """A File-set ID as an argument."""
    if not is_file_set_id(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} has to be at most 16 characters A-Z, 0-9, _ and space"
        )
    return text


def tell_additions(additions: Additions, terminal: Terminal) -> None:
    """Say what had to be made up, and what contradicts itself."""
    for keyword, count in additions.invented.items():
        terminal.note(
            f"{counted(count, 'object')} without {keyword}, which a directory needs: it is made "
            "up, or empty"
        )
    if additions.other_names:
        terminal.note(
            f"{counted(additions.other_names, 'object')} with another Patient's Name than the "
            "first one with this Patient ID, whose name the directory has"
        )
    if additions.other_patients:
        terminal.note(
            f"{counted(additions.other_patients, 'object')} of another patient than the first one "
            "of the study, under whose patient the directory has the study"
        )
