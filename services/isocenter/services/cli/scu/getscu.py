"""``isocenter getscu``: objects from a peer over the same association (PS3.4 C.4.3).

The requestor has to propose, before it knows what comes, a presentation context for each
SOP class and transfer syntax; there are 128 of them.  So we ask first which SOP classes
there are (SOPClassesInStudy, SOPClassUID) and propose every transfer syntax for those;
where the peer does not tell, the usual classes in uncompressed syntaxes and the
usual compressed ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Final

from isocenter.engine.errors import AssociationError
from isocenter.engine.uid import (
    is_safe_uid,
)
from isocenter.services.archive.index.attributes import UNIQUE_KEY, Level
from isocenter.services.association.requestor import Context
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.client_command import CannotAssociateError, Client, run_client
from isocenter.services.cli.support.instance_options import frame_list, request_by_instance
from isocenter.services.cli.support.network_options import add_network_options
from isocenter.services.cli.support.query_options import (
    MODELS,
    Request,
    add_query_options,
    requests_of,
)
from isocenter.services.cli.support.received_files import add_receiving_options, folder_of
from isocenter.services.cli.support.retrieve_output import follow, outcome_of, report_outcome
from isocenter.services.cli.support.transfer_syntaxes import (
    add_transfer_syntax_options,
    sop_class,
    transfer_syntaxes_of,
)
from isocenter.services.dicom.uid_registry import (
    BASIC_SYNTAXES,
    STORAGE_SOP_CLASSES,
)
from isocenter.services.errors import ConnectError, NoPresentationContextError, OperationError
from isocenter.services.service_classes.client import ClientAssociation
from isocenter.services.service_classes.storage.object_folder import ReceivedCounts
from isocenter.services.service_classes.storage.retrieve_contexts import (
    MOST_RETRIEVE_CONTEXTS,
    SYNTAX_ORDER,
    USUAL_IMAGES,
    retrieve_contexts,
)

DESCRIPTION: Final = """\
Retrieve objects from a peer (C-GET) into files.  No listening port is needed.  What comes
is kept byte for byte."""
EXAMPLES: Final = """\
examples:
  isocenter getscu ISOCENTER@localhost:11112 --study-uid 1.2.3 -od downloads
  isocenter getscu -S -L SERIES -k StudyInstanceUID=1.2.3 -k SeriesInstanceUID=1.2.3.4 \\
                   -aec ISOCENTER archive 11112 --structure flat
  isocenter getscu ISOCENTER@localhost:11112 --patient-id P1 -od p1 --sop-class CTImageStorage +xa
  isocenter getscu ISOCENTER@localhost:11112 --sop-instance-uid 1.2.3.4.5 --frames 1,10-20 \\
                   --sop-class UltrasoundMultiFrameImageStorage
  isocenter getscu ISOCENTER@archive:2762 --study-uid 1.2.3 -aet CT1 \\
                   --tls-cert CT1.crt --tls-key CT1.key --tls-ca ca.crt

An association has room for 128 presentation contexts.  Without --sop-class the peer is asked
which SOP classes there are (--no-query: not).  Where some objects come and others fail, name
theirs with --sop-class, and their compression with -xs, --transfer-syntax or +xa.

exit codes: 0 all came, 1 some did not, 2 arguments or no association"""

_SOP_CLASS_UID: Final = 0x00080016
_SOP_CLASSES_IN_STUDY: Final = 0x00080062
#: Matches of our question that are looked at; a patient with more studies has no more classes.
_MOST_LOOKED_AT: Final = 5_000


def add_arguments(parser: CommandParser) -> None:
    """The options of getscu."""
    add_network_options(parser, calling="GETSCU", timeout=60, what_follows="QUERY-FILE …")
    add_query_options(parser)
    add_receiving_options(parser)
    group = parser.add_argument_group("what to accept")
    group.add_argument(
        "--sop-class",
        type=sop_class,
        action="append",
        default=[],
        metavar="UID",
        help="a storage SOP class to propose, by UID or keyword (repeatable)",
    )
    group.add_argument(
        "--no-query", action="store_true", help="do not ask the peer which SOP classes there are"
    )
    group = parser.add_argument_group("by instance (PS3.4 Y, Z)")
    group.add_argument(
        "--by-instance",
        action="store_true",
        help="by --sop-instance-uid alone, whatever study it is of",
    )
    group.add_argument(
        "--frames",
        type=frame_list,
        metavar="LIST",
        help="a new object of these frames of one instance: 1,3,5-9",
    )
    group.add_argument(
        "--without-bulk-data", action="store_true", help="all but pixels and other bulk data"
    )
    group = parser.add_argument_group("progress")
    group.add_argument("-p", "--progress", action="store_true", default=True, help="default")
    group.add_argument(
        "--no-progress", dest="progress", action="store_false", help="no progress bar"
    )
    add_transfer_syntax_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Retrieve; the exit code."""

    async def work(client: Client, rest: list[str]) -> int:
        requests = requests_of(arguments, rest, retrieve=True)
        good = True
        for request in requests:
            good &= await _get(client, request, arguments)
        if client.interrupts.were_requested():
            return EXIT_INTERRUPTED
        return EXIT_OK if good else EXIT_FAILED

    return run_client(arguments, work)


async def _get(client: Client, request: Request, arguments: argparse.Namespace) -> bool:
    sop_class_uid: str = MODELS[request.model][2]
    encode: Callable[[str], bytes] = request.encode
    by_instance = request_by_instance(arguments, request)
    if by_instance is not None:
        sop_class_uid, encode = by_instance
    with client.terminal.progress("retrieving", wanted=arguments.progress) as advance:

        def received(so_far: ReceivedCounts) -> None:
            client.terminal.detail(f"{so_far.written + so_far.kept + so_far.failed} objects came")

        folder = folder_of(arguments, received)
        classes: Sequence[str] = arguments.sop_class
        if not classes and not arguments.no_query and by_instance is None:
            classes = await _ask_for_classes(client, request)
        if client.interrupts.were_requested():
            return False
        contexts = retrieve_contexts(classes, transfer_syntaxes_of(arguments))
        async with client.associate(
            [(sop_class_uid, BASIC_SYNTAXES), *contexts],
            scp_roles=dict.fromkeys(uid for uid, _ in contexts),
        ) as association:
            with client.interrupts.stoppable():
                result = await outcome_of(
                    association.get(
                        encode,
                        folder.receive,
                        sop_class_uid=sop_class_uid,
                        progress=follow(advance),
                        takes_raw_uids=True,  # the folder counts what it refuses
                    )
                )
    if client.interrupts.were_requested():
        client.terminal.note(f"cancelled; {folder.counts.written} files written")
        return False
    # What the user names says nothing of what there is.
    known = () if arguments.sop_class else classes
    return report_outcome(result, client.terminal, folder, advice_of(known, contexts))


def advice_of(classes: Sequence[str], contexts: Sequence[Context]) -> str:
    """What to do about objects that the peer did not send.

    Args:
        classes: SOP classes of what was asked for; empty: nobody knows.
        contexts: what was proposed for them.
    """
    proposed = {(uid, syntax) for uid, syntaxes in contexts for syntax in syntaxes}
    if classes and proposed.issuperset((uid, syntax) for uid in classes for syntax in SYNTAX_ORDER):
        return (
            "all their SOP classes and transfer syntaxes were proposed; the peer's log says why, "
            "such as a file that is gone or damaged there"
        )
    return (
        "the peer's log says why; where no presentation context fits, name the SOP classes and "
        "transfer syntaxes of what failed with --sop-class and --transfer-syntax, or +xa"
    )


# -- Which SOP classes are there? ----------------------------------------------------------


async def _ask_for_classes(client: Client, request: Request) -> list[str]:
    """SOP classes of what will come, as the peer tells; empty: it does not."""
    sop_class_uid = MODELS[request.model][0]
    try:
        async with client.associate([(sop_class_uid, BASIC_SYNTAXES)]) as association:
            with client.interrupts.stoppable():
                return await _classes(association, sop_class_uid, _question(request))
    except CannotAssociateError as error:
        if isinstance(error.__cause__, ConnectError):
            raise
        client.terminal.detail(f"the peer does not tell its SOP classes: {error}")
    except (NoPresentationContextError, OperationError, AssociationError) as error:
        client.terminal.detail(f"the peer does not tell its SOP classes: {error}")
    return []


def _question(request: Request) -> Request:
    is_image = request.level is Level.IMAGE
    level = Level.IMAGE if is_image else Level.STUDY
    values = request.top_level
    keys = tuple(
        (f"{tag >> 16:04x},{tag & 0xFFFF:04x}", values[tag])
        for at, tag in UNIQUE_KEY.items()
        if at.depth <= level.depth and values.get(tag)
    )
    asked = ("0008,0016", "") if is_image else ("0008,0062", "")
    unique = UNIQUE_KEY[level]
    if not values.get(unique):
        keys += ((f"{unique >> 16:04x},{unique & 0xFFFF:04x}", ""),)
    return Request(level, request.model, (*keys, asked), request.character_set)


async def _classes(
    association: ClientAssociation, sop_class_uid: str, question: Request
) -> list[str]:
    found: dict[str, None] = {}
    looked_at = 0
    async with association.find(question.encode, sop_class_uid=sop_class_uid) as matches:
        async for match in matches:
            told = [
                uid
                for tag in (_SOP_CLASS_UID, _SOP_CLASSES_IN_STUDY)
                if tag in match
                for uid in _values(match[tag].value)
                if is_safe_uid(uid)
            ]
            if not told:
                return []  # what is told of the others is not all
            found |= dict.fromkeys(told)
            looked_at += 1
            if looked_at >= _MOST_LOOKED_AT or len(found) > MOST_RETRIEVE_CONTEXTS:
                break
    # Images first: what does not fit is the rare.
    return sorted(found, key=lambda uid: (uid not in STORAGE_SOP_CLASSES, uid not in USUAL_IMAGES))


def _values(value: object) -> list[str]:
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [str(value)]
    return [str(one) for one in value] if isinstance(value, Sequence) else []
