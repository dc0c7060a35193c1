"""``isocenter delete``: studies, series or instances leave the archive, for the trash first."""

from __future__ import annotations

import argparse
from typing import Final

from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.archive.deletion.ports import DeletionRefusedError
from isocenter.services.archive.deletion.service import Trash
from isocenter.services.archive.deletion.values import Plan
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Query
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.archive.db import add_archive_options, archive_settings
from isocenter.services.cli.support.client_command import Interrupts, run_task
from isocenter.services.cli.support.confirmation import is_confirmed
from isocenter.services.cli.support.deletion_output import (
    counted,
    opened_trash,
    requester_of,
    shown_until,
)
from isocenter.services.cli.support.options import UsageError, add_output_options, reason, uid
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.diagnostics.doctor.check import size_text
from isocenter.services.dicom.attribute_path import parse_key
from isocenter.services.service_classes.query_retrieve.identifier import (
    InformationModel,
    parse_query,
)
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.query_retrieve.matching_keys import IdentifierError
from isocenter.services.settings.loading import Settings

DESCRIPTION: Final = """\
Delete from the archive.  What is deleted is not found, sent or promised any more, at once; its
files lie in the trash for storage.trash_days days, from where isocenter trash restores them as
they were.  May run while the server does.  What is to be deleted is counted and asked for first."""
EXAMPLES: Final = """\
examples:
  isocenter delete --study 1.2.840.113619.2.55.3 --reason "wrong patient" --dry-run
  isocenter delete --study 1.2.840.113619.2.55.3 --reason "wrong patient"
  isocenter delete --series 1.2.3.4 --reason "test scan" --yes
  isocenter delete -k PatientID=TEST-* -k Modality=US --reason "phantoms of the service"
  isocenter delete -k StudyDate=-20051231 --reason "past retention" --yes

All keys that are given have to match, as in a relational C-FIND.  Instances that are not to go
(somebody was promised to keep them, or a destination has yet to get them) keep everything where it
is, unless --force says otherwise; studies that are held (isocenter hold) stay in any case.

exit codes: 0 deleted, 1 refused, or nothing matches, 2 arguments or
settings"""

_UID_OPTIONS: Final = {
    "--study": ("StudyInstanceUID", "a study"),
    "--series": ("SeriesInstanceUID", "a series"),
    "--instance": ("SOPInstanceUID", "an instance"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of delete."""
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
    parser.add_argument(
        "--reason",
        required=True,
        type=reason,
        metavar="TEXT",
        help="why; it stands in the audit trail",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="count what would go, and change nothing"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--force",
        action="store_true",
        help="delete also what was promised to be kept, or has yet to be sent on",
    )
    add_archive_options(parser)
    add_output_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Delete; the exit code."""
    terminal = Terminal.of(arguments)

    async def work(interrupts: Interrupts) -> int:
        settings = archive_settings(arguments, must_exist=True)
        query = query_of(arguments, settings)
        code = EXIT_INTERRUPTED
        with interrupts.stoppable():
            async with opened_trash(
                settings, "isocenter delete", changes=not arguments.dry_run
            ) as trash:
                code = await _delete(arguments, settings, trash, query, terminal)
        return code

    return run_task(terminal, work)


def query_of(arguments: argparse.Namespace, settings: Settings) -> Query:
    """What the options mean.

    Raises:
        UsageError: nothing is said, or something that would match everything, or nothing known.
    """
    keys = [parse_key(text) for text in arguments.key]
    for keyword, _ in _UID_OPTIONS.values():
        uids: list[str] = getattr(arguments, keyword)
        if uids:
            keys.append((keyword, "\\".join(uids)))
    if not keys:
        raise UsageError("what shall be deleted? Give --study, --series, --instance or -k")
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


async def _delete(
    arguments: argparse.Namespace,
    settings: Settings,
    trash: Trash,
    query: Query,
    terminal: Terminal,
) -> int:
    plan = await trash.plan(query)
    if not plan.instances:
        terminal.error("nothing in the archive matches; nothing was deleted")
        return EXIT_FAILED
    print(f"{counts_of(plan)}")
    for text in plan.obstacles.texts():
        print(f"of them, instances {text}")
    is_forbidden = plan.obstacles.forbid(overrule=arguments.force)
    if arguments.dry_run:
        is_or_not = "would be refused" if is_forbidden else "nothing stands against it"
        print(f"nothing was changed; {is_or_not}")
        return EXIT_FAILED if is_forbidden else EXIT_OK
    if is_forbidden:
        terminal.error(_why(plan))
        return EXIT_FAILED
    if not await is_confirmed(arguments, terminal, f"delete {counts_of(plan)}"):
        return EXIT_FAILED
    requester = requester_of(settings, "isocenter delete")
    with terminal.progress("deleting") as advance:
        try:
            done = await trash.delete(
                plan,
                requester,
                arguments.reason,
                overrule=arguments.force,
                progress=lambda count: advance(count, plan.instances),
            )
        except DeletionRefusedError as error:
            terminal.error(f"{error} since they were counted; studies before these are deleted")
            return EXIT_FAILED
    if done.changed:
        terminal.note(f"{counted(done.changed, 'instance')} changed after the count, and stay")
    if not done.deletion_id:
        terminal.error("nothing was deleted")
        return EXIT_FAILED
    print(f"deleted {counted(done.instances, 'instance')}: {done.deletion_id}")
    print(shown_until(settings, done.deletion_id))
    return EXIT_OK


def counts_of(plan: Plan) -> str:
    """How much it is, without whose."""
    return (
        f"{counted(plan.instances, 'instance')} in {counted(plan.series, 'series', 'series')} and "
        f"{counted(len(plan.studies), 'study', 'studies')} of {counted(plan.patients, 'patient')}, "
        f"{size_text(plan.size)}"
    )


def _why(plan: Plan) -> str:
    """What stands against it, and the cure."""
    obstacles = plan.obstacles
    if obstacles.held:
        return "nothing was deleted: a study is held; isocenter hold list says why"
    if obstacles.asked:
        return (
            "nothing was deleted: a peer has asked for storage commitment and has no answer yet; "
            "try again when isocenter commitments list names none that is pending"
        )
    return (
        "nothing was deleted: see the lines above; --force deletes it all the same, and breaks "
        "promises that were given, or gives up what has yet to be sent"
    )
