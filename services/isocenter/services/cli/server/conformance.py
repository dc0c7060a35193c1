"""``isocenter conformance``: what a server with these settings says of itself (PS3.2)."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.services import composition
from isocenter.services.cli import EXIT_FAILED, EXIT_OK, EXIT_USAGE, program_version
from isocenter.services.composition.conformance import statement_blocks, statement_title
from isocenter.services.composition.web import web_routes
from isocenter.services.errors import fault_text
from isocenter.services.net.http.routing import Route
from isocenter.services.notices import Notices
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.options import add_options, overrides_from
from isocenter.services.settings.sections.storage import IN_MEMORY
from isocenter.services.settings.settings import Settings
from isocenter.services.web.description.document import html, markdown
from isocenter.services.web.description.service import described

DESCRIPTION: Final = """\
Print the DICOM conformance statement (PS3.2) of a server with these settings: made from the
services, tables and limits that it would run on.  No server has to run."""
EXAMPLES: Final = """\
examples:
  isocenter conformance
  isocenter conformance --config /etc/isocenter.toml --format html --output statement.html

exit codes: 0 done, 1 it could not be made or written, 2 wrong arguments or settings"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of serve, and how the document looks."""
    add_options(parser)
    parser.add_argument("--format", choices=("md", "html"), default="md", help="default: md")
    parser.add_argument("--output", metavar="FILE", type=Path, help="default: standard output")


def run(arguments: argparse.Namespace) -> int:
    """Print or write the document; the exit code."""
    try:
        settings = load_settings(arguments.config, overrides=overrides_from(arguments))
    except SettingsError as error:
        print(f"isocenter conformance: {fault_text(error)}", file=sys.stderr)
        return EXIT_USAGE
    try:
        text = trio.run(_document, settings, arguments.format)
        if arguments.output is None:
            print(text, end="")
        else:
            arguments.output.write_text(text, "utf-8")
    except (IsocenterError, OSError) as error:
        print(f"isocenter conformance: {fault_text(error)}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


async def _document(settings: Settings, form: str) -> str:
    """The archive is one in memory: what is kept is no part of the statement."""
    empty = replace(settings, storage=replace(settings.storage, data_dir=Path(IN_MEMORY)))
    with tempfile.TemporaryDirectory(prefix="isocenter-") as folder:
        tls = composition.TlsContexts(empty, Path(folder)) if settings.tls.enabled else None
        async with composition.open_archive_parts(empty) as parts:
            plugins = [composition.load_plugin(entry) for entry in settings.plugins]
            composition.check_plugins(plugins)
            registry, workflow = composition.build_services_and_workflow(
                empty, parts.archive, parts.stores, tls, plugins=plugins
            )
            write = html if form == "html" else markdown

            def document(routes: Sequence[Route[Any]]) -> str:
                blocks = statement_blocks(settings, registry, tls, plugins, routes)
                return write(statement_title(program_version()), blocks)

            if not settings.web.enabled:
                return document(())
            routes = web_routes(empty, parts, Notices(), workflow)
            table, _ = described(routes, version="", statement=document)
            return document(table.routes)
