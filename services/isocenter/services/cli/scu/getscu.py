"""``isocenter getscu``: objects from a peer over the same association (PS3.4 C.4.3).

The requestor has to propose, before it knows what comes, a presentation context for each
SOP class and transfer syntax; there are 128 of them.  So we ask first which SOP classes
there are (SOPClassesInStudy, SOPClassUID) and propose every transfer syntax for those;
where the peer does not tell, the usual classes in uncompressed syntaxes and the
usual compressed ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Final

from isocenter.engine.errors import AssociationError
from isocenter.engine.uid import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    is_safe_uid,
)
from isocenter.services.archive.index.attributes import UNIQUE_KEY, Level
from isocenter.services.association.requestor import Context
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.support.client_command import CannotAssociate, Client, run_client
from isocenter.services.cli.support.options import add_network_options
from isocenter.services.cli.support.query_options import (
    MODELS,
    Request,
    add_query_options,
    requests_of,
)
from isocenter.services.cli.support.received_files import add_receiving_options, folder_of
from isocenter.services.cli.support.retrieve_output import follow, judge, outcome_of
from isocenter.services.cli.support.transfer_syntaxes import (
    Groups,
    add_transfer_syntax_options,
    contexts_of,
    sop_class,
    transfer_syntaxes_of,
)
from isocenter.services.dicom.uid_registry import (
    BASIC_SYNTAXES,
    STORAGE_SOP_CLASSES,
    TRANSFER_SYNTAXES,
)
from isocenter.services.errors import ConnectError, NoPresentationContext, OperationError
from isocenter.services.service_classes.client import ClientAssociation
from isocenter.services.service_classes.storage.object_folder import ReceivedCounts

DESCRIPTION: Final = """\
Retrieve objects from a peer (C-GET) into files.  No listening port is needed.  What comes
is kept byte for byte."""
EXAMPLES: Final = """\
examples:
  isocenter getscu ISOCENTER@localhost:11112 --study-uid 1.2.3 -od downloads
  isocenter getscu -S -L SERIES -k StudyInstanceUID=1.2.3 -k SeriesInstanceUID=1.2.3.4 \\
                   -aec ISOCENTER archive 11112 --structure flat
  isocenter getscu ISOCENTER@localhost:11112 --patient-id P1 -od p1 --sop-class CTImageStorage +xa
  isocenter getscu ISOCENTER@archive:2762 --study-uid 1.2.3 -aet CT1 \\
                   --tls-cert CT1.crt --tls-key CT1.key --tls-ca ca.crt

An association has room for 128 presentation contexts.  Without --sop-class the peer is asked
which SOP classes there are (--no-query: not).  Where some objects come and others fail, name
theirs with --sop-class, and their compression with -xs, --transfer-syntax or +xa.

exit codes: 0 all came, 1 some did not, 2 arguments or no association"""

#: One of the 128 is for the C-GET itself.
_STORAGE_CONTEXTS: Final = 127
_STORAGE: Final = "1.2.840.10008.5.1.4.1.1."
_JPEG: Final = "1.2.840.10008.1.2.4."
_SOP_CLASS_UID: Final = 0x00080016
_SOP_CLASSES_IN_STUDY: Final = 0x00080062
#: Matches of our question that are looked at; a patient with more studies has no more classes.
_MOST_LOOKED_AT: Final = 5_000

#: Compressed syntaxes in the order in which archives hold them.
_COMPRESSED: Final = (
    f"{_JPEG}70",
    f"{_JPEG}90",
    f"{_JPEG}50",
    f"{_JPEG}80",
    "1.2.840.10008.1.2.5",
    f"{_JPEG}91",
    f"{_JPEG}51",
    f"{_JPEG}57",
    f"{_JPEG}81",
)
_SYNTAX_ORDER: Final = tuple(
    dict.fromkeys(
        (
            EXPLICIT_VR_LITTLE_ENDIAN,
            IMPLICIT_VR_LITTLE_ENDIAN,
            *_COMPRESSED,
            EXPLICIT_VR_BIG_ENDIAN,
            *TRANSFER_SYNTAXES,
        )
    )
)


def _uids(suffixes: str) -> tuple[str, ...]:
    return tuple(_STORAGE + suffix for suffix in suffixes.split())


#: The usual SOP classes, those that are compressed first.
_USUAL_IMAGES: Final = _uids("2 4 1 1.1 1.2 6.1 3.1 7 12.1 12.2 128 20")
_USUAL_OTHERS: Final = _uids(
    "2.1 2.2 4.1 4.2 4.3 4.4 1.1.1 1.2.1 1.3 1.3.1 6 3 6.2 5 7.1 7.2 7.3 7.4 11.1 11.2 11.3 "
    "11.4 12.1.1 12.2.1 13.1.1 13.1.2 13.1.3 14.1 130 128.1 30 66 66.1 66.3 66.4 66.5 67 "
    "77.1.1 77.1.1.1 77.1.2 77.1.2.1 77.1.3 77.1.4 77.1.4.1 77.1.5.1 77.1.5.2 77.1.5.4 "
    "77.1.6 78.1 79.1 80.1 88.11 88.22 88.33 88.34 88.40 88.50 88.59 88.65 88.67 104.1 "
    "104.2 104.3 481.1 481.2 481.3 481.4 481.5 481.8 481.9 9.1.1 9.1.2 9.1.3 9.2.1 9.3.1 9.4.1"
)
#: What is proposed together where there is no room to propose them apart.
_PLAIN_GROUP: Final = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)


def add_arguments(parser: argparse.ArgumentParser) -> None:
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
    sop_class_uid = MODELS[request.model][2]
    with client.terminal.progress("retrieving", wanted=arguments.progress) as advance:

        def received(so_far: ReceivedCounts) -> None:
            client.terminal.detail(f"{so_far.written + so_far.kept + so_far.failed} objects came")

        folder = folder_of(arguments, received)
        classes: Sequence[str] = arguments.sop_class
        if not classes and not arguments.no_query:
            classes = await _ask_for_classes(client, request)
        if client.interrupts.were_requested():
            return False
        contexts = storage_contexts(classes, transfer_syntaxes_of(arguments))
        async with client.associate(
            [(sop_class_uid, BASIC_SYNTAXES), *contexts],
            scp_roles=dict.fromkeys(uid for uid, _ in contexts),
        ) as association:
            with client.interrupts.stoppable():
                result = await outcome_of(
                    association.get(
                        request.encode,
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
    return judge(result, client.terminal, folder, advice_of(known, contexts))


def advice_of(classes: Sequence[str], contexts: Sequence[Context]) -> str:
    """What to do about objects that the peer did not send.

    Args:
        classes: SOP classes of what was asked for; empty: nobody knows.
        contexts: what was proposed for them.
    """
    proposed = {(uid, syntax) for uid, syntaxes in contexts for syntax in syntaxes}
    if classes and proposed.issuperset(
        (uid, syntax) for uid in classes for syntax in _SYNTAX_ORDER
    ):
        return (
            "all their SOP classes and transfer syntaxes were proposed; the peer's log says why, "
            "such as a file that is gone or damaged there"
        )
    return (
        "the peer's log says why; where no presentation context fits, name the SOP classes and "
        "transfer syntaxes of what failed with --sop-class and --transfer-syntax, or +xa"
    )


def storage_contexts(classes: Sequence[str], groups: Groups) -> list[Context]:
    """The presentation contexts for what may come.

    Each accepted context carries one transfer syntax, so that syntaxes stand apart where
    there is room.

    Args:
        classes: SOP classes; empty: nobody knows.
        groups: transfer syntaxes that the user wants; empty: the usual ones.
    """
    if not classes:
        if groups:
            return list(contexts_of((*_USUAL_IMAGES, *_USUAL_OTHERS), groups, _STORAGE_CONTEXTS))
        plain = contexts_of((*_USUAL_IMAGES, *_USUAL_OTHERS), (_PLAIN_GROUP,), _STORAGE_CONTEXTS)
        compressed = tuple((uid,) for uid in _COMPRESSED)
        room = _STORAGE_CONTEXTS - len(plain)
        return [*plain, *contexts_of(_USUAL_IMAGES, compressed, room)]
    if groups:
        return list(contexts_of(classes, groups, _STORAGE_CONTEXTS))
    if len(_PLAIN_GROUP) * len(classes) > _STORAGE_CONTEXTS:
        return list(contexts_of(classes, (_PLAIN_GROUP,), _STORAGE_CONTEXTS))
    apart = tuple((uid,) for uid in _SYNTAX_ORDER)
    return list(contexts_of(classes, apart, _STORAGE_CONTEXTS))


# -- Which SOP classes are there? ----------------------------------------------------------


async def _ask_for_classes(client: Client, request: Request) -> list[str]:
    """SOP classes of what will come, as the peer tells; empty: it does not."""
    sop_class_uid = MODELS[request.model][0]
    try:
        async with client.associate([(sop_class_uid, BASIC_SYNTAXES)]) as association:
            with client.interrupts.stoppable():
                return await _classes(association, sop_class_uid, _question(request))
    except CannotAssociate as error:
        if isinstance(error.__cause__, ConnectError):
            raise
        client.terminal.detail(f"the peer does not tell its SOP classes: {error}")
    except (NoPresentationContext, OperationError, AssociationError) as error:
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
            if looked_at >= _MOST_LOOKED_AT or len(found) > _STORAGE_CONTEXTS:
                break
    # Images first: what does not fit is the rare.
    return sorted(found, key=lambda uid: (uid not in STORAGE_SOP_CLASSES, uid not in _USUAL_IMAGES))


def _values(value: object) -> list[str]:
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [str(value)]
    return [str(one) for one in value] if isinstance(value, Sequence) else []
