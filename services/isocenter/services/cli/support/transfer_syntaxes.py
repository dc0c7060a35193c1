"""``-xs``, ``+xa`` and their like: which transfer syntaxes to propose, in DCMTK's letters."""

from __future__ import annotations

import argparse
from typing import Final

from isocenter.engine.uid import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    is_uid,
)
from isocenter.services.dicom.pydicom_tables import UIDS
from isocenter.services.dicom.uid_registry import STORAGE_SOP_CLASSES, TRANSFER_SYNTAXES, name_of

_JPEG: Final = "1.2.840.10008.1.2.4."
#: Letter → transfer syntax beside the uncompressed ones; DCMTK's and features' long names.
_LETTERS: Final = (
    ("s", f"{_JPEG}70", ("--propose-lossless", "--prefer-lossless")),
    ("y", f"{_JPEG}50", ("--propose-jpeg8",)),
    ("x", f"{_JPEG}51", ("--propose-jpeg12",)),
    ("v", f"{_JPEG}90", ("--propose-j2k-lossless",)),
    ("w", f"{_JPEG}91", ("--propose-j2k-lossy",)),
    ("t", f"{_JPEG}80", ("--propose-jls-lossless",)),
    ("u", f"{_JPEG}81", ("--propose-jls-lossy",)),
    ("m", f"{_JPEG}100", ("--propose-mpeg2",)),
    ("h", f"{_JPEG}101", ("--propose-mpeg2-high",)),
    ("n", f"{_JPEG}102", ("--propose-mpeg4",)),
    ("l", f"{_JPEG}103", ("--propose-mpeg4-bd",)),
    ("4", f"{_JPEG}107", ("--propose-hevc",)),
    ("5", f"{_JPEG}108", ("--propose-hevc10",)),
    ("r", "1.2.840.10008.1.2.5", ("--propose-rle",)),
    ("d", DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, ("--propose-deflated",)),
)
#: What everybody can read, the one with the most information first.
UNCOMPRESSED_PROPOSAL: Final = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
)

Groups = tuple[tuple[str, ...], ...]


def add_transfer_syntax_options(parser: argparse.ArgumentParser) -> None:
    """The options; `transfer_syntaxes_of` reads them."""
    group = parser.add_argument_group("transfer syntaxes")
    group.add_argument(
        "-x=",
        "+x=",
        "-xe",
        "+xe",
        "--propose-uncompr",
        "--propose-little",
        "--propose-explicit",
        dest="syntaxes",
        action="append_const",
        const=(UNCOMPRESSED_PROPOSAL,),
        help="uncompressed ones, explicit VR little endian first",
    )
    group.add_argument(
        "-xi",
        "+xi",
        "--propose-implicit",
        dest="syntaxes",
        action="append_const",
        const=((IMPLICIT_VR_LITTLE_ENDIAN,),),
        help="implicit VR little endian only",
    )
    for letter, uid, names in _LETTERS:
        group.add_argument(
            f"-x{letter}",
            f"+x{letter}",
            *names,
            dest="syntaxes",
            action="append_const",
            const=((uid,), UNCOMPRESSED_PROPOSAL),
            help=f"{name_of(uid)}, and uncompressed ones",
        )
    group.add_argument(
        "--transfer-syntax",
        dest="syntaxes",
        type=_groups_of,
        action="append",
        metavar="UID",
        help="this one, by UID or keyword, and uncompressed ones (repeatable)",
    )
    group.add_argument(
        "+xa",
        "--propose-all",
        "--all-syntaxes",
        "--accept-all",
        dest="all_syntaxes",
        action="store_true",
        help="every one that is known",
    )


def transfer_syntaxes_of(arguments: argparse.Namespace) -> Groups:
    """Groups of transfer syntaxes, each for a presentation context; empty: nothing was asked."""
    if arguments.all_syntaxes:
        return tuple((uid,) for uid in TRANSFER_SYNTAXES)
    groups: dict[tuple[str, ...], None] = {}
    for given in arguments.syntaxes or ():
        groups |= dict.fromkeys(given)
    return tuple(groups)


def _groups_of(text: str) -> Groups:
    return ((uid_of(text, TRANSFER_SYNTAXES, "transfer syntax"),), UNCOMPRESSED_PROPOSAL)


def sop_class(text: str) -> str:
    """A storage SOP class by UID, keyword or name, as an argument."""
    return uid_of(text, STORAGE_SOP_CLASSES, "storage SOP class")


def uid_of(text: str, known: dict[str, str], what: str) -> str:
    """A UID by itself, its keyword or its name.

    Raises:
        argparse.ArgumentTypeError: it is none of them.
    """
    if is_uid(text):
        return text
    wanted = _folded(text)
    for uid, name in known.items():
        entry = UIDS.get(uid)
        if wanted in (_folded(name), _folded(entry[4]) if entry else None):
            return uid
    raise argparse.ArgumentTypeError(f"{text!r} is neither a UID nor the keyword of a {what}")


def _folded(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())
