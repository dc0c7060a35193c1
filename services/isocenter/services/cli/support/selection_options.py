"""Options that select objects of an archive, and their meaning as a query."""

from __future__ import annotations

import argparse
from typing import Final

from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Query
from isocenter.services.archive.selection import Selection
from isocenter.services.cli.support.deletion_output import counted
from isocenter.services.cli.support.options import UsageError, uid
from isocenter.services.diagnostics.doctor.check import size_text
from isocenter.services.dicom.attribute_path import parse_key
from isocenter.services.service_classes.query_retrieve.identifier import (
    InformationModel,
    parse_query,
)
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.query_retrieve.matching_keys import IdentifierError
from isocenter.services.settings.settings import Settings

_UID_OPTIONS: Final = {
    "--study": ("StudyInstanceUID", "a study"),
    "--series": ("SeriesInstanceUID", "a series"),
    "--instance": ("SOPInstanceUID", "an instance"),
}


def add_selection_options(parser: argparse.ArgumentParser) -> None:
    """``--study``, ``--series``, ``--instance`` and ``-k``; `query_of` reads them."""
    group = parser.add_argument_group("what")
    for option, (keyword, text) in _UID_OPTIONS.items():
        group.add_argument(
            option,
            dest=keyword,
            type=uid,
            action="append",
            default=[],
            metavar="UID",
            help=f"{text} (repeatable)",
        )
    group.add_argument(
        "-k",
        "--key",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="what matches: gggg,eeee=VALUE or Keyword=VALUE, with wild cards and ranges as in "
        "isocenter findscu (repeatable)",
    )


def query_of(arguments: argparse.Namespace, settings: Settings, what: str) -> Query:
    """What the options mean.

    Args:
        what: is done to it: "deleted".

    Raises:
        UsageError: nothing is said, or something that would match everything, or nothing known.
    """
    keys = [parse_key(text) for text in arguments.key]
    for keyword, _ in _UID_OPTIONS.values():
        uids: list[str] = getattr(arguments, keyword)
        if uids:
            keys.append((keyword, "\\".join(uids)))
    if not keys:
        raise UsageError(f"what shall be {what}? Give --study, --series, --instance or -k")
    for name, value in keys:
        if not value:
            raise UsageError(f"-k {name} has no value: it would match everything")
    identifier = build_identifier(keys, Level.IMAGE, EXPLICIT_VR_LITTLE_ENDIAN)
    try:
        parsed = parse_query(
            identifier,
            EXPLICIT_VR_LITTLE_ENDIAN,
            root=InformationModel.PATIENT,
            relational=True,
            limits=settings.engine_limits(),
        )
    except IdentifierError as error:
        raise UsageError(error.comment) from error
    if parsed.unsupported:
        names = ", ".join(f"({tag >> 16:04X},{tag & 0xFFFF:04X})" for tag in parsed.unsupported)
        raise UsageError(f"the index does not know {names}; leave it out")
    matching = {criterion.tag for criterion in parsed.query.criteria}
    for tag, _ in parsed.requested:
        if tag not in matching:
            raise UsageError(
                f"the value for ({tag >> 16:04X},{tag & 0xFFFF:04X}) matches everything; leave the "
                "key out, or say what is meant"
            )
    return parsed.query


def counts_of(selection: Selection) -> str:
    """How much it is, without whose."""
    series = counted(selection.series, "series", "series")
    studies = counted(len(selection.studies), "study", "studies")
    return (
        f"{counted(selection.instances, 'instance')} in {series} and {studies} of "
        f"{counted(selection.patients, 'patient')}, {size_text(selection.size)}"
    )
