"""``isocenter deidentification``: projects of an archive, and their mappings."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Final

from isocenter.services.archive.deidentification.ports import MappingConflictError
from isocenter.services.archive.deidentification.project import Project
from isocenter.services.archive.deidentification.service import UnknownProjectError
from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.cli.support.actions import add_actions
from isocenter.services.cli.support.archive_action import run_action
from isocenter.services.cli.support.listing import print_rows
from isocenter.services.cli.support.match_output import prepare_stdout
from isocenter.services.cli.support.options import UsageError, add_archive_options
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.composition.archive import open_stores
from isocenter.services.composition.deidentification import (
    BASIC,
    key_of,
    open_deidentification,
    take_key,
)
from isocenter.services.dicom.deidentification.pseudonyms import (
    PseudonymError,
    Pseudonyms,
    UidMap,
    parse_key,
)
from isocenter.services.errors import text_of
from isocenter.services.settings.settings import Settings
from isocenter.services.system.private_files import (
    PRIVATE_FILE,
    SecretFileError,
    read_secret,
    write_file,
)

DESCRIPTION: Final = """\
Projects of de-identification of an archive ([[deidentification]] in its settings), and which UIDs
they gave to which objects.  Who has a mapping, or the key of a project, can tell whose an object
is: keep both away from what was de-identified."""
EXAMPLES: Final = """\
examples:
  isocenter deidentification list
  isocenter deidentification original basic 2.25.86209450286632255710276825945471232629
  isocenter deidentification export basic mapping.json
  isocenter deidentification import basic mapping.json
  isocenter deidentification export-key basic basic.key
  isocenter deidentification import-key basic basic.key

exit codes: 0 done, 1 not done, 2 arguments or settings"""

_HEAD: Final = ("project", "profile", "options", "destinations", "roles", "addresses", "UIDs")
_BLOCK: Final = 1_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of deidentification."""
    for name, action in add_actions(
        parser,
        (
            ("list", "projects, and how many UIDs each gave out"),
            ("original", "the UIDs behind those that a project gave out"),
            ("export", "write the mapping of a project as JSON, for its owner only"),
            ("import", "take pairs of UIDs from such a file"),
            ("export-key", "write the key of a project, for its owner only"),
            ("import-key", "have the key in such a file for a project"),
        ),
    ):
        add_archive_options(action)
        if name == "list":
            action.add_argument(
                "--format", choices=("table", "json"), default="table", help="(default: table)"
            )
            continue
        action.add_argument("project", metavar="PROJECT", help="its name")
        if name == "original":
            action.add_argument("uids", nargs="+", metavar="UID", help="that it gave out")
        else:
            action.add_argument("file", type=Path, metavar="FILE")


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    return run_action(
        arguments,
        {
            "list": _list,
            "original": _original,
            "export": _export,
            "import": _import,
            "export-key": _export_key,
            "import-key": _import_key,
        },
    )


async def _list(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    async with open_stores(settings) as stores:
        projects = open_deidentification(settings, stores, None).projects.values()
        rows = [
            (
                project.name,
                project.base,
                ", ".join(sorted(option.value for option in project.profile.options)),
                ", ".join(project.destinations),
                ", ".join(project.roles),
                ", ".join(project.addresses),
                str(await stores.deidentification.count(project.name)),
            )
            for project in projects
        ]
    print_rows(
        rows,
        as_json=arguments.format == "json",
        head=_HEAD,
        line=lambda row: row,
        members=lambda row: dict(zip(_HEAD, row, strict=True)),
    )
    return EXIT_OK


async def _original(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    code = EXIT_OK
    out = prepare_stdout("table")
    async with open_stores(settings) as stores:
        _project(settings, arguments)
        for uid in arguments.uids:
            found = await stores.deidentification.original(arguments.project, uid)
            if found is None:
                code = EXIT_FAILED
                terminal.error(f"{uid[:64]}: {arguments.project} never gave it out")
            else:
                out.write(f"{uid}\t{found}\n")
    return code


async def _export(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    uids = UidMap(_project(settings, arguments).uid_root)
    async with open_stores(settings) as stores:
        after = ""
        while page := await stores.deidentification.page(arguments.project, after, _BLOCK):
            for original, pseudonym in page:
                uids.add(original, pseudonym)
            after = page[-1][0]
    _write(arguments.file, json.dumps(uids.to_json(), indent=1).encode("utf-8") + b"\n")
    terminal.note(f"{len(uids)} UIDs were written")
    return EXIT_OK


async def _import(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    _project(settings, arguments)
    try:
        uids = UidMap.from_json(json.loads(arguments.file.read_text("utf-8")))
    except (OSError, ValueError, PseudonymError) as error:
        why = text_of(error) if isinstance(error, OSError) else f"is no mapping: {error}"
        raise UsageError(f"{arguments.file}: {why}") from None
    async with open_stores(settings) as stores:
        try:
            new = await stores.deidentification.add(arguments.project, uids.items())
        except MappingConflictError as error:
            terminal.error(f"nothing was taken: {error}")
            return EXIT_FAILED
    terminal.note(f"{new} UIDs are new")
    return EXIT_OK


async def _export_key(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    _write(arguments.file, key_of(_project(settings, arguments), settings).hex().encode() + b"\n")
    terminal.note("whoever has it, and the mapping, can say whose each pseudonym is")
    return EXIT_OK


async def _import_key(settings: Settings, arguments: argparse.Namespace, terminal: Terminal) -> int:
    project = _project(settings, arguments)
    try:
        key = parse_key(read_secret(arguments.file))
    except (SecretFileError, PseudonymError) as error:
        raise UsageError(f"{arguments.file}: {error}") from None
    async with open_stores(settings) as stores:
        given = await stores.deidentification.page(project.name, "", _BLOCK)
    # The one that has made them may come back, as after a restore without it.
    pseudonyms = Pseudonyms(key, UidMap(project.uid_root))
    is_other = bool(given) and all(pseudonyms.uid(uid) != made for uid, made in given)
    try:
        take_key(project, settings, key, has_given_out=is_other)
    except PseudonymError as error:
        terminal.error(f"nothing was taken: {error}")
        return EXIT_FAILED
    terminal.note("a server that runs takes it when it is started again")
    return EXIT_OK


def _write(path: Path, content: bytes) -> None:
    try:
        write_file(path, content, PRIVATE_FILE, replace=False)
    except FileExistsError:
        raise UsageError(f"{path} is there already; name another file") from None


def _project(settings: Settings, arguments: argparse.Namespace) -> Project:
    """The project that is named.

    Raises:
        UsageError: there is none.
    """
    for project in settings.deidentification:
        if project.name == arguments.project:
            return project
    if arguments.project == BASIC:
        return Project(name=BASIC)
    raise UsageError(
        str(UnknownProjectError(f"there is no project {arguments.project[:64]!r}; see list"))
    )
