"""``isocenter findscu``: what a peer has (PS3.4 C.4.1)."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Final

from isocenter.engine.dataset import DataSetError
from isocenter.services.archive.index.attributes import BY_KEYWORD, Level
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.client_command import Client, run_client
from isocenter.services.cli.support.find_negotiation import (
    add_find_negotiation,
    extended_for,
    tell_refused,
    zoned_keys,
)
from isocenter.services.cli.support.match_options import (
    MATCH_FORMATS,
    add_match_output,
    add_max_results,
)
from isocenter.services.cli.support.match_output import (
    Match,
    MatchWriter,
    extract,
    output_to,
    writer_of,
)
from isocenter.services.cli.support.network_options import add_network_options
from isocenter.services.cli.support.options import UsageError
from isocenter.services.cli.support.query_options import (
    USUAL_KEYS,
    Request,
    add_query_options,
    requests_of,
)
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES
from isocenter.services.errors import OperationError
from isocenter.services.service_classes.client import ClientAssociation
from isocenter.services.service_classes.worklist.scu import RETURN_KEYS

DESCRIPTION: Final = """\
Query a peer (C-FIND).  Matches go to standard output as they come.  Without -k and -f the
usual attributes of the level are asked for, otherwise those that are named."""
EXAMPLES: Final = """\
examples:
  isocenter findscu ISOCENTER@localhost:11112 --patient-name 'DOE*' -o table
  isocenter findscu ISOCENTER@localhost:11112 --study-date 20240101- --modality CT -o json
  isocenter findscu ISOCENTER@localhost:11112 --patient-name 'Mueller Joerg' --fuzzy
  isocenter findscu -S -L SERIES -k StudyInstanceUID=1.2.3 -k Modality -k 0008,103e \\
                    -aec ISOCENTER archive 11112
  isocenter findscu -S -k '(0008,0052)=STUDY' -k 'RequestAttributesSequence[0].0040,1001=RP1' \\
                    -k StudyInstanceUID -aec ISOCENTER archive 11112
  isocenter findscu -W -k PatientName -k '(0040,0100)[0].Modality=CT' \\
                    -k '(0040,0100)[0].(0040,0002)=20261124' -aec RIS ris 104
  isocenter findscu ISOCENTER@localhost:11112 -f query.txt -o csv --output-file answer.csv

exit codes: 0 there are matches, 1 none or the query failed, 2 arguments or no association"""


def add_arguments(parser: CommandParser) -> None:
    """The options of findscu."""
    add_network_options(parser, calling="FINDSCU", timeout=30, what_follows="QUERY-FILE …")
    add_query_options(parser, has_worklist=True)
    group = parser.add_argument_group("matches")
    add_match_output(
        group,
        MATCH_FORMATS,
        text="how they are written; json is the DICOM JSON model, xml the Native DICOM Model",
    )
    group.add_argument(
        "-X", "--extract", action="store_true", help="also each as a DICOM file, rsp00001.dcm …"
    )
    group.add_argument(
        "-od",
        "--output-directory",
        "--output-dir",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="where those files go (default: .)",
    )
    add_max_results(group, "matches")
    add_find_negotiation(group)


def run(arguments: argparse.Namespace) -> int:
    """Query the peer; the exit code."""

    async def work(client: Client, rest: list[str]) -> int:
        requests = [
            _completed(arguments, one) for one in requests_of(arguments, rest, retrieve=False)
        ]
        requests = [replace(one, keys=(*one.keys, *zoned_keys(arguments))) for one in requests]
        if arguments.extract and not arguments.output_directory.is_dir():
            raise UsageError(f"{arguments.output_directory}: no such folder")
        with output_to(arguments.output_file, arguments.output) as out:
            tags = list(requests[0].top_level)
            finder = _Finder(client, writer_of(arguments.output, out, tags), arguments)
            return await finder.find_all(requests)

    return run_client(arguments, work)


def _completed(arguments: argparse.Namespace, request: Request) -> Request:
    if arguments.key or arguments.query_file or len(arguments.peer) > 2:
        return request
    if request.level is None:
        return replace(request, keys=(*RETURN_KEYS, *request.keys))
    named = set(request.top_level)
    usual = tuple(
        (keyword, "")
        for keyword in USUAL_KEYS[request.level]
        if BY_KEYWORD[keyword].tag not in named
    )
    return replace(request, keys=request.keys + usual)


class _Finder:
    def __init__(self, client: Client, writer: MatchWriter, arguments: argparse.Namespace) -> None:
        self._client = client
        self._arguments = arguments
        self._writer = writer
        self._most: int = arguments.max_results
        self._folder: Path | None = arguments.output_directory if arguments.extract else None
        self._count = 0

    async def find_all(self, requests: list[Request]) -> int:
        client = self._client
        contexts = [
            (uid, BASIC_SYNTAXES)
            for uid in dict.fromkeys(request.find_sop_class_uid for request in requests)
        ]
        failed = False
        extended = extended_for(self._arguments, [uid for uid, _ in contexts])
        async with client.associate(contexts, extended=extended) as association:
            for uid, _ in contexts:
                tell_refused(self._arguments, client, association, uid)
            with client.interrupts.stoppable():
                for request in requests:
                    failed |= not await self._find(association, request)
        self._writer.finish()
        client.terminal.detail(f"{self._count} matches")
        if client.interrupts.were_requested():
            return EXIT_INTERRUPTED
        if not self._count and not failed:
            client.terminal.note("no match")
        return EXIT_OK if self._count and not failed else EXIT_FAILED

    async def _find(self, association: ClientAssociation, request: Request) -> bool:
        sop_class_uid = request.find_sop_class_uid
        found = 0
        try:
            async with association.find(request.encode, sop_class_uid=sop_class_uid) as matches:
                while (encoded := await matches.next_encoded()) is not None:
                    self._take(encoded, sop_class_uid, matches.transfer_syntax)
                    found += 1
                    if self._most and found >= self._most:
                        self._client.terminal.detail(f"cancelled after {found} matches")
                        break
        except OperationError as error:
            self._client.terminal.error(f"the peer refused the query: {error}{_advice(request)}")
            return False
        return True

    def _take(self, encoded: bytes, sop_class_uid: str, transfer_syntax_uid: str) -> None:
        self._count += 1
        if self._folder is not None:
            try:
                extract(self._folder, self._count, encoded, sop_class_uid, transfer_syntax_uid)
            except FileExistsError as error:
                raise UsageError(
                    f"{error.filename} is there already; choose another folder with -od"
                ) from error
        try:
            self._writer.write(Match(encoded, transfer_syntax_uid))
        except DataSetError as error:
            self._client.terminal.error(f"match {self._count} cannot be read: {error}")


def _advice(request: Request) -> str:
    if request.level is Level.STUDY and request.model == "patient":
        return "; at this level Patient Root needs --patient-id, Study Root (-S) does not"
    if request.level in (Level.SERIES, Level.IMAGE):
        return "; name the entities above with --study-uid and --series-uid"
    return ""
