"""``isocenter db``: look after the archive's index."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from typing import Final

from isocenter.services import composition
from isocenter.services.archive.counted_findings import CountedFindings
from isocenter.services.archive.deletion.values import Adopted
from isocenter.services.archive.reindexing import reindex
from isocenter.services.archive.verification import VerificationProgress, VerifyReport, verify
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.support.actions import add_actions
from isocenter.services.cli.support.archive_settings import archive_settings
from isocenter.services.cli.support.client_command import Interrupts, run_task
from isocenter.services.cli.support.options import add_archive_options
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.diagnostics.doctor.check import size_text
from isocenter.services.settings.settings import Settings

DESCRIPTION: Final = (
    "Look after the archive: what it holds, whether all of it is well, a new index."
)
EXAMPLES: Final = """\
examples:
  isocenter db stats
  isocenter db verify --data-dir /srv/isocenter
  isocenter db verify --no-checksums
  isocenter db reindex --config /etc/isocenter.toml
  isocenter db reindex --metadata
  isocenter db rewrap --config /etc/isocenter.toml

stats, verify, rewrap and reindex --metadata may run while the server does; reindex may not.

exit codes: 0 all is well, 1 verify, reindex or rewrap found damage, 2 arguments or settings"""

#: Findings of one kind that are named without ``-v``.
_NAMED: Final = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of db."""
    for name, action in add_actions(
        parser,
        (
            ("stats", "count patients, studies, series, instances and bytes"),
            (
                "verify",
                "compare files and index both ways, attributes too, and files with checksums",
            ),
            ("reindex", "make the index again from the files alone"),
            (
                "rewrap",
                "encrypt the keys of objects in a bucket with the first of objects.keys_file",
            ),
        ),
    ):
        add_archive_options(action)
        if name == "verify":
            action.add_argument(
                "--no-checksums",
                dest="checksums",
                action="store_false",
                help="compare sizes only, without reading the objects: no attributes either",
            )
        if name == "reindex":
            action.add_argument(
                "--metadata",
                action="store_true",
                help="leave the index as it is, and make what DICOMweb answers from where it is "
                "missing: metadata, and where frames lie",
            )


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    terminal = Terminal.of(arguments)

    async def work(interrupts: Interrupts) -> int:
        settings = archive_settings(arguments, must_exist=True)
        code = EXIT_INTERRUPTED
        with interrupts.stoppable():
            match arguments.action:
                case "stats":
                    code = await _stats(settings)
                case "verify":
                    code = await _verify(settings, terminal, checksums=arguments.checksums)
                case "rewrap":
                    code = await _rewrap(settings, terminal)
                case _ if arguments.metadata:
                    code = await _make_metadata(settings, terminal)
                case _:
                    code = await _reindex(settings, terminal)
        return code

    return run_task(terminal, work)


@asynccontextmanager
async def _beside_the_server(settings: Settings) -> AsyncIterator[composition.ArchiveParts]:
    """The archive for reading; a server may be at work on it."""
    async with composition.open_archive_parts(settings, lock=False, recover=False) as parts:
        yield parts


async def _stats(settings: Settings) -> int:
    async with _beside_the_server(settings) as parts:
        statistics = await parts.archive.index.statistics()
    for name, count in (
        ("patients", statistics.patients),
        ("studies", statistics.studies),
        ("series", statistics.series),
        ("instances", statistics.instances),
        ("bytes", statistics.size),
    ):
        print(f"{name:<10} {count:>16}")
    return EXIT_OK


async def _verify(settings: Settings, terminal: Terminal, *, checksums: bool) -> int:
    with terminal.progress("verifying") as advance:

        def show(progress: VerificationProgress) -> None:
            advance(progress.done, progress.total)

        async with _beside_the_server(settings) as parts:
            report = await verify(parts.archive, progress=show, checksums=checksums)
            trash = composition.trash_of(settings, parts, "isocenter db verify")
            lost = CountedFindings() if trash is None else await trash.verify()
            wrong = await composition.check_metadata(parts) if checksums else CountedFindings()
    is_good = print_report(report, terminal)
    print_findings(terminal, {"in the trash": lost, "metadata": wrong})
    if lost.count:
        terminal.error(f"{lost.count} deleted objects could not be restored; see the lines above")
    if wrong.count:
        terminal.error(
            f"{wrong.count} metadata are not those of their objects; stop the server, and "
            "isocenter db reindex has all made again"
        )
    return EXIT_OK if is_good and not lost.count and not wrong.count else EXIT_FAILED


def print_report(report: VerifyReport, terminal: Terminal) -> bool:
    """What a comparison of files and index found; whether all is well."""
    print_findings(
        terminal,
        {
            "missing": report.missing,
            "wrong size": report.wrong_size,
            "changed": report.wrong_digest,
            "unreadable": report.unreadable,
            "differs from the index": report.differing,
            "orphan": report.orphans,
            "index": report.index,
            "journal": report.journal,
        },
    )
    print(
        f"{report.instances} instances, {report.objects} objects, {size_text(report.size)} read: "
        f"{report.missing.count} missing, {report.wrong_size.count} of wrong size, "
        f"{report.wrong_digest.count} changed, {report.unreadable.count} unreadable, "
        f"{report.differing.count} differing from the index, "
        f"{report.orphans.count} not in the index"
    )
    if report.index.count:
        terminal.error(
            f"the index is damaged ({report.index.count} findings); stop the server and run "
            "isocenter db reindex; if that fails, move index.db and those named like it with -wal "
            "and -shm away before"
        )
    if report.journal.count:
        terminal.error(
            "the journal is damaged: if the server was not stopped in order, objects that came "
            "just before may be damaged too; what is named above as missing or changed is to be "
            "sent again, or restored from a backup"
        )
    if report.has_damage and not report.index.count:
        terminal.error(
            "objects are damaged; restore them from a backup into their places, or "
            "isocenter db reindex makes the index forget those that are missing"
        )
    if report.differing.count:
        terminal.error(
            f"the index says of {report.differing.count} objects what they do not say; stop the "
            "server, and isocenter db reindex makes it from them again"
        )
    if not report.is_good:
        return False
    if report.orphans.count:
        terminal.note("isocenter db reindex takes into the index what is not in it")
    return True


async def _reindex(settings: Settings, terminal: Terminal) -> int:
    with terminal.progress("reindexing") as advance:

        def show(progress: VerificationProgress) -> None:
            advance(progress.done, progress.total)

        async with composition.open_archive_parts(settings, rebuild=True) as parts:
            trash = composition.trash_of(settings, parts, "isocenter db reindex")
            # What was deleted must not come back, nor what is deleted meanwhile.
            async with nullcontext() if trash is None else trash.resting():
                report = await reindex(parts.archive, show)
            adopted = Adopted() if trash is None else await trash.adopt()
            # What they reject is known to the index alone.
            await parts.stores.rejections.look_again()
    print_findings(
        terminal,
        {
            "damaged": report.damaged,
            "not named by the archive": report.foreign,
            "superseded": report.superseded,
            "forgotten": report.forgotten,
            "left as it was in the index": report.carried,
            "damaged in the trash": adopted.damaged,
        },
    )
    print(
        f"{report.objects} objects, {size_text(report.size)} read: {report.indexed} instances "
        f"in the index; {report.damaged.count} damaged, {report.foreign.count} not named by "
        f"the archive, {report.superseded.count} superseded, {report.forgotten.count} forgotten"
    )
    if adopted.instances:
        terminal.note(
            f"{adopted.instances} deleted instances are in the trash; see isocenter trash list"
        )
    if report.foreign.count:
        terminal.note("isocenter import takes files that the archive did not name")
    if report.damaged.count or report.forgotten.count:
        terminal.error("not every object is well; see the lines above, and your backup")
        return EXIT_FAILED
    return EXIT_OK


async def _make_metadata(settings: Settings, terminal: Terminal) -> int:
    with terminal.progress("making metadata") as advance:
        async with _beside_the_server(settings) as parts:
            made = await composition.make_metadata(settings, parts, advance)
    print(
        f"{made.series} series had no metadata: they have now, but for {made.later} of which an "
        "object cannot be read"
    )
    if made.later:
        terminal.error("some objects cannot be read; isocenter db verify names them")
        return EXIT_FAILED
    return EXIT_OK


async def _rewrap(settings: Settings, terminal: Terminal) -> int:
    with terminal.progress("encrypting keys") as advance:
        async with _beside_the_server(settings) as parts:
            done = await composition.rewrap_objects(
                settings, parts, lambda objects: advance(objects, None)
            )
    for path, fault in done.faults[: None if terminal.is_verbose else _NAMED]:
        terminal.note(f"{path}: {fault}")
    print(
        f"{done.done} objects have the first key now, {done.already} had it, {done.plain} are not "
        f"encrypted, {len(done.faults)} stay as they are"
    )
    if done.faults:
        terminal.error("some objects need other keys still; see the lines above")
        return EXIT_FAILED
    return EXIT_OK


def print_findings(terminal: Terminal, findings: Mapping[str, CountedFindings]) -> None:
    """A line for each finding; of many, the first ones unless ``-v``."""
    for kind, found in findings.items():
        named = found.named if terminal.is_verbose else found.named[:_NAMED]
        for name, reason in named:
            terminal.note(f"{kind}: {name}" + (f" ({reason})" if reason else ""))
        if found.count > len(named):
            rest = "" if terminal.is_verbose else "; -v names more"
            terminal.note(f"{kind}: {found.count - len(named)} more{rest}")
