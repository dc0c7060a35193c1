"""``isocenter commitscu``: ask a peer to promise that it keeps objects (PS3.4 Annex J)."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import orjson

from isocenter.engine.errors import AssociationError
from isocenter.services.archive.index.attributes import Level
from isocenter.services.association.access import AeTitleRules
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.client_command import Client, run_client
from isocenter.services.cli.support.match_output import prepare_stdout, print_table, shown
from isocenter.services.cli.support.network_options import add_network_options
from isocenter.services.cli.support.options import UsageError, check_paths, port, whole_number
from isocenter.services.cli.support.sent_files import files_below
from isocenter.services.cli.support.tls_options import receiving_tls_of
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.dicom.objects import DamagedFileError, DicomObject, NotDicomFileError
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES
from isocenter.services.dicom.uids import UidRule
from isocenter.services.errors import NoPresentationContextError, OperationError, text_of
from isocenter.services.net.listeners import ListenAddress
from isocenter.services.service_classes.commitment.scu import (
    CONTEXTS,
    CommitmentResult,
    CommitmentResults,
    ReportTimeoutError,
    request_commitment,
)
from isocenter.services.service_classes.commitment.transaction import REASONS, Reference
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier

DESCRIPTION: Final = """\
Ask a peer to commit to the safekeeping of objects, and wait for its answer: storage commitment
by N-ACTION, the outcome by N-EVENT-REPORT on the same association or, with --port, on one
that the peer opens to us."""
EXAMPLES: Final = """\
examples:
  isocenter commitscu ISOCENTER@localhost:11112 images/
  isocenter commitscu ISOCENTER@localhost:11112 --study 1.2.3 --format json
  isocenter commitscu PACS@archive:104 -aet CT1 --port 11113 images/
  isocenter commitscu ISOCENTER@archive:2762 -aet CT1 images/ --tls-cert CT1.crt \\
                      --tls-key CT1.key --tls-ca ca.crt --port 11113 --receive-tls

With --port the peer has to know that our AE title listens there: with Isocenter as the peer,
isocenter serve --peer CT1@host:11113.

exit codes: 0 everything is committed, 1 something is not, a file is damaged or no report came,
2 arguments or no association"""

_EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 - whoever asks for a port wants to be reached
_DEFAULT_WAIT: Final = 300
#: With a listener of ours, the association is kept open for so long.
_STAY_SECONDS: Final = 5.0
_LONGEST: Final = 7 * 86_400
_FORMATS: Final = ("table", "text", "json")
#: References in one request: what `Limits.identifier` of a server like ours takes.
_MOST_REFERENCES: Final = 5_000


def add_arguments(parser: CommandParser) -> None:
    """The options of commitscu."""
    add_network_options(parser, calling="COMMITSCU", timeout=30, what_follows="FILE-OR-FOLDER …")
    group = parser.add_argument_group("what to commit")
    group.add_argument(
        "--study",
        action="append",
        default=[],
        type=_uid,
        metavar="UID",
        help="all instances that the peer has of this study, by C-FIND (repeatable)",
    )
    group.add_argument(
        "--scan-pattern",
        default="*",
        metavar="P",
        help="names of files in folders that are taken (default: all)",
    )
    group = parser.add_argument_group("the outcome")
    group.add_argument(
        "+P", "--port", type=port, metavar="N", help="listen here for the report, too"
    )
    group.add_argument(
        "--receive-host",
        default=_EVERYWHERE,
        metavar="H",
        help="address to listen at (default: %(default)s)",
    )
    group.add_argument(
        "--receive-tls",
        action="store_true",
        help="listen over TLS, with --tls-cert, --tls-key and --tls-ca",
    )
    group.add_argument(
        "-w",
        "--wait",
        type=whole_number(1, _LONGEST),
        default=_DEFAULT_WAIT,
        metavar="S",
        help="seconds for the report (default: %(default)s)",
    )
    group.add_argument(
        "--no-stay",
        action="store_true",
        help="release the association at once; the report has to come to --port",
    )
    group.add_argument(
        "--format",
        choices=_FORMATS,
        default="table",
        help="how the outcome is printed (default: %(default)s)",
    )


def _uid(text: str) -> str:
    if not UidRule.SAFE.allows(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no UID")
    return text


def run(arguments: argparse.Namespace) -> int:
    """Ask for commitment; the exit code."""

    async def work(client: Client, rest: list[str]) -> int:
        check_paths(rest)
        if not rest and not arguments.study:
            raise UsageError("what? Give files or folders, or --study UID")
        if arguments.no_stay and arguments.port is None:
            raise UsageError("--no-stay needs --port: the report has to come somewhere")
        references: list[Reference] = []
        damaged = 0
        results: list[CommitmentResult] = []
        with client.interrupts.stoppable():
            references, damaged = await _references_of_files(client, rest, arguments.scan_pattern)
            for study in arguments.study:
                references += await _references_of_study(client, study)
            references = list(dict.fromkeys(references))
            if not references:
                client.terminal.error("there is nothing to commit")
                return EXIT_FAILED
            async with _results(client, arguments) as taken:
                for start in range(0, len(references), _MOST_REFERENCES):
                    block = references[start : start + _MOST_REFERENCES]
                    result = await _ask(client, arguments, block, taken)
                    if result is None:
                        break
                    results.append(result)
        if client.interrupts.were_requested():
            return EXIT_INTERRUPTED
        _print(results, arguments.format)
        answered = sum(len(r.committed) + len(r.failed) + len(r.unmentioned) for r in results)
        committed = sum(len(r.committed) for r in results)
        client.terminal.note(f"{committed} of {len(references)} instances are committed")
        if damaged:
            client.terminal.error(f"for {damaged} damaged files there is no promise")
        is_good = answered >= len(references) and all(r.is_complete for r in results)
        return EXIT_OK if is_good and not damaged else EXIT_FAILED

    return run_client(arguments, work)


# -- What to commit ----------------------------------------------------------------------


async def _references_of_files(
    client: Client, paths: Sequence[str], pattern: str
) -> tuple[list[Reference], int]:
    """The objects that files hold, and how many files are DICOM but cannot be read."""
    found: list[Reference] = []
    damaged = 0
    with client.terminal.progress("reading", wanted=bool(paths)) as advance:
        for file in files_below(paths, pattern):
            if file.fault:
                raise UsageError(f"{file.path}: {file.fault}")
            try:
                item = await DicomObject.from_file(file.path)
            except NotDicomFileError as error:
                client.terminal.note(str(error))
                damaged += isinstance(error, DamagedFileError)
                continue
            found.append(Reference(item.sop_class_uid, item.sop_instance_uid))
            advance(len(found), None)
    return found, damaged


async def _references_of_study(client: Client, study: str) -> list[Reference]:
    """As the peer knows them."""
    found: list[Reference] = []
    contexts = [(sop_classes.STUDY_ROOT_FIND, BASIC_SYNTAXES)]

    def keys(level: Level, **values: str) -> bytes:
        return build_identifier([("StudyInstanceUID", study), *values.items()], level, syntax)

    async with client.associate(contexts) as association:
        syntax = association.contexts[0].transfer_syntax if association.contexts else ""
        series = [
            str(match.SeriesInstanceUID)
            async for match in association.find(keys(Level.SERIES, SeriesInstanceUID=""))
        ]
        for uid in series:
            identifier = keys(Level.IMAGE, SeriesInstanceUID=uid, SOPInstanceUID="", SOPClassUID="")
            async for match in association.find(identifier):
                sop_class_uid = str(match.get("SOPClassUID", "") or "")
                if not sop_class_uid:
                    raise UsageError(
                        "the peer does not tell SOP classes in its answers; give files instead"
                    )
                found.append(Reference(sop_class_uid, str(match.SOPInstanceUID)))
    client.terminal.detail(f"study {study}: {len(found)} instances")
    return found


# -- Asking ------------------------------------------------------------------------------


@asynccontextmanager
async def _results(
    client: Client, arguments: argparse.Namespace
) -> AsyncIterator[CommitmentResults]:
    results = CommitmentResults()
    if arguments.port is None:
        yield results
        return
    tls = receiving_tls_of(arguments) if arguments.receive_tls else None
    bind = ListenAddress(
        host=arguments.receive_host,
        port=arguments.port,
        tls=None if tls is None else lambda: tls,
    )
    access = AeTitleRules(
        ae_titles=frozenset({client.calling_ae_title}), certificate_owns_ae_title=False
    )
    try:
        async with results.listening(bind, access=access):
            yield results
    except OSError as error:
        raise UsageError(text_of(error)) from error


async def _ask(
    client: Client,
    arguments: argparse.Namespace,
    references: Sequence[Reference],
    results: CommitmentResults,
) -> CommitmentResult | None:
    if arguments.no_stay:
        stay = 0.0
    else:
        stay = float(arguments.wait) if arguments.port is None else _STAY_SECONDS
    terminal = client.terminal
    terminal.detail(f"asking for {len(references)} instances")
    try:
        return await request_commitment(
            lambda provider: client.associate(CONTEXTS, provider=provider),
            references,
            results,
            stay=stay,
            wait=float(arguments.wait),
        )
    except OperationError as error:
        terminal.error(f"the peer does not take the request: {error}")
    except (ReportTimeoutError, NoPresentationContextError, AssociationError) as error:
        terminal.error(str(error))
    return None


# -- The outcome -------------------------------------------------------------------------


def _print(results: Sequence[CommitmentResult], output_format: str) -> None:
    out = prepare_stdout(output_format)
    lines = _lines(results)
    if output_format == "json":
        out.write(orjson.dumps([_json(each) for each in results]).decode() + "\n")
    elif output_format == "text":
        for reference, outcome in lines:
            out.write(f"{shown(reference.sop_instance_uid)} {outcome}\n")
    elif lines:
        rows = [
            (shown(sop_classes.name_of(reference.sop_class_uid)),
             shown(reference.sop_instance_uid), outcome)
            for reference, outcome in lines
        ]  # fmt: skip
        print_table(out, ("SOP class", "SOP Instance UID", "outcome"), rows)
    out.flush()


def _lines(results: Sequence[CommitmentResult]) -> list[tuple[Reference, str]]:
    lines: list[tuple[Reference, str]] = []
    for result in results:
        lines += [(reference, "committed") for reference in result.committed]
        lines += [
            (reference, f"failed: {reason:04X}H {REASONS.get(reason, 'unknown failure reason')}")
            for reference, reason in result.failed
        ]
        lines += [(each, "failed: not in the report") for each in result.unmentioned]
    return lines


def _json(result: CommitmentResult) -> dict[str, object]:
    def named(reference: Reference) -> dict[str, object]:
        return {
            "sop_class_uid": reference.sop_class_uid,
            "sop_instance_uid": reference.sop_instance_uid,
        }

    return {
        "transaction_uid": result.transaction_uid,
        "retrieve_ae_title": result.retrieve_ae_title,
        "committed": [named(reference) for reference in result.committed],
        "failed": [
            named(reference) | {"failure_reason": f"{reason:04X}"}
            for reference, reason in result.failed
        ],
        "unmentioned": [named(reference) for reference in result.unmentioned],
    }
