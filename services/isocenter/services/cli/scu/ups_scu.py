"""``isocenter upsscu``: create, perform, cancel and watch unified procedure steps (PS3.4 CC)."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from isocenter.engine.dimse.status import ServiceClass, StatusClass, classify, describe_status
from isocenter.engine.errors import AssociationError
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, is_safe_uid
from isocenter.services.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.client_command import Client, run_client
from isocenter.services.cli.support.match_output import Match, prepare_stdout, shown, writer_of
from isocenter.services.cli.support.network_options import (
    add_network_options,
    run_with_called_ae_title,
)
from isocenter.services.cli.support.options import UsageError, ae_title
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.dicom.attribute_path import parse_key
from isocenter.services.dicom.uids import new_uid
from isocenter.services.errors import NoPresentationContextError, OperationError
from isocenter.services.service_classes.client import ClientAssociation
from isocenter.services.service_classes.normalized.operations import AnswerError, NServiceResponse
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.ups import scu
from isocenter.services.service_classes.ups.workitem import (
    CANCELLED_AT,
    FILTERED_SUBSCRIPTION,
    GLOBAL_SUBSCRIPTION,
    PROGRESS,
    PROGRESS_INFORMATION,
    WorkitemState,
    date_time,
    element,
    sequence,
)

DESCRIPTION: Final = """\
Unified procedure steps as SCU.  ACTION is one of

  create                    create a workitem (N-CREATE); prints its UID
  find                      find workitems (C-FIND) that match -k, all by default
  get UID                   print one (N-GET)
  claim UID                 begin to perform it; prints the Transaction UID, which is the lock
  set UID                   set attributes of it (N-SET) from -k and --progress
  complete UID              end it, when what was done has been set
  cancel UID                give it up as its performer
  request-cancel UID        ask for it to be cancelled
  subscribe [UID]           have a receiver be told of one, or of all
  unsubscribe [UID]         the contrary
  suspend                   have it be told of none that are yet to come"""
EXAMPLES: Final = """\
examples:
  isocenter upsscu RIS@localhost:11112 create --label "Segment the liver" -k PatientID=P1
  isocenter upsscu RIS@localhost:11112 find -k ProcedureStepState=SCHEDULED -o json
  isocenter upsscu RIS@localhost:11112 claim 2.25.17 --transaction 2.25.18
  isocenter upsscu RIS@localhost:11112 set 2.25.17 --transaction 2.25.18 --progress 50
  isocenter upsscu RIS@localhost:11112 complete 2.25.17 --transaction 2.25.18
  isocenter upsscu RIS@localhost:11112 request-cancel 2.25.17 -k ReasonForCancellation=double
  isocenter upsscu RIS@localhost:11112 subscribe --receiver AI --lock
  isocenter upsscu RIS@localhost:11112 subscribe --receiver AI -k WorklistLabel=AI

subscribe without UID means all workitems, and with -k those that match.

exit codes: 0 the peer took it, 1 it did not, or find found none, 2 arguments or no association"""

_ACTIONS: Final = (
    "create", "find", "get", "claim", "set", "complete", "cancel", "request-cancel", "subscribe",
    "unsubscribe", "suspend",
)  # fmt: skip
_WITHOUT_UID: Final = ("create", "find", "subscribe", "unsubscribe", "suspend")
_LOCKED: Final = ("set", "complete", "cancel")
#: What find shows of each, when nobody says it.
_SHOWN: Final = (
    "ProcedureStepState", "ScheduledProcedureStepPriority", "ProcedureStepLabel", "WorklistLabel",
    "ScheduledProcedureStepStartDateTime", "InputReadinessState", "PatientID", "PatientName",
    "StudyInstanceUID", "ProcedureStepProgressInformationSequence",
)  # fmt: skip


def add_arguments(parser: CommandParser) -> None:
    """The options of upsscu."""
    add_network_options(parser, calling="UPSSCU", timeout=30, what_follows="ACTION [UID]")
    group = parser.add_argument_group("what is said of the workitem")
    group.add_argument(
        "-k", "--key", action="append", default=[], metavar="NAME=VALUE",
        help="an attribute, by keyword or tag, also NAME[0].NAME=VALUE (repeatable)",
    )  # fmt: skip
    group.add_argument("--uid", type=_uid, metavar="UID", help="of a new one (default: made)")
    group.add_argument("--label", default="", metavar="TEXT", help="what is to be done")
    group.add_argument("--worklist-label", default="", metavar="TEXT", help="the list it is in")
    group.add_argument(
        "--priority", choices=("HIGH", "MEDIUM", "LOW"), default="MEDIUM",
        help="how urgent it is (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--readiness", choices=("INCOMPLETE", "UNAVAILABLE", "READY"), default="READY",
        help="whether its input is there (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--start", metavar="DT", help="when it is scheduled, as 20260504103000+0200 (default: now)"
    )
    group = parser.add_argument_group("performing")
    group.add_argument(
        "--transaction", type=_uid, metavar="UID", help="Transaction UID (claim: default: made)"
    )
    group.add_argument("--progress", type=_percent, metavar="N", help="how far it is, in percent")
    group = parser.add_argument_group("subscriptions")
    group.add_argument(
        "--receiver", type=ae_title, metavar="AET",
        help="who is told (default: the calling AE title)",
    )  # fmt: skip
    group.add_argument("--lock", action="store_true", help="they are not to be deleted meanwhile")
    parser.add_argument(
        "-o", "--output", choices=("text", "json"), default="text",
        help="how find and get print workitems (default: %(default)s)",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""

    async def work(client: Client, rest: list[str]) -> int:
        action, uid = _action(rest, arguments)
        do = _prepared(client, arguments, action, uid)
        code = EXIT_FAILED
        async with client.associate(scu.CONTEXTS) as association:
            with client.interrupts.stoppable():
                try:
                    code = await do(association)
                except AnswerError as error:
                    _tell(client, error.answer)
                except OperationError as error:
                    words = describe_status(error.status, ServiceClass.UNIFIED_PROCEDURE_STEP)
                    client.terminal.error(f"the peer answered {error.status:04X}H {words}")
                except (AssociationError, NoPresentationContextError) as error:
                    client.terminal.error(str(error))
        return EXIT_INTERRUPTED if client.interrupts.were_requested() else code

    return run_with_called_ae_title(arguments, lambda given: run_client(given, work), _ACTIONS)


def _action(rest: Sequence[str], arguments: argparse.Namespace) -> tuple[str, str]:
    """What to do, and with which workitem."""
    if not rest or rest[0] not in _ACTIONS:
        raise UsageError(f"what? Give one of {', '.join(_ACTIONS)} behind the peer")
    action, *more = rest
    if len(more) > 1 or (more and action in ("create", "find", "suspend")):
        raise UsageError(f"{action} takes no {more[-1]!r}")
    if more and not is_safe_uid(more[0]):
        raise UsageError(f"{more[0]!r} is no UID")
    if not more and action not in _WITHOUT_UID:
        raise UsageError(f"which workitem? {action} needs its UID, as create printed it")
    if action in _LOCKED and arguments.transaction is None and action != "set":
        raise UsageError(f"{action} needs --transaction UID, as claim printed it")
    return action, more[0] if more else ""


_Do = Callable[[ClientAssociation], Awaitable[int]]


def _prepared(client: Client, arguments: argparse.Namespace, action: str, uid: str) -> _Do:
    """What is to be done, made before there is an association to wait for it."""
    transaction = arguments.transaction or ""
    receiver = arguments.receiver or client.calling_ae_title
    keys = _keys(arguments.key)
    match action:
        case "create":
            uid = arguments.uid or new_uid()
            workitem = _new(arguments).updated(keys)
            return _printing(client, uid, lambda peer: scu.create_workitem(peer, uid, workitem))
        case "find":
            return lambda peer: _find(client, arguments, peer)
        case "get":
            return lambda peer: _get(client, arguments, peer, uid)
        case "claim":
            transaction = transaction or new_uid()
            return _printing(
                client,
                transaction,
                lambda peer: scu.change_state(peer, uid, WorkitemState.IN_PROGRESS, transaction),
            )
        case "set":
            changes = keys.updated(_progress(arguments.progress))
            if not changes.elements:
                raise UsageError("set what? Give -k NAME=VALUE or --progress N")
            return _quiet(client, lambda peer: scu.set_workitem(peer, uid, changes, transaction))
        case "complete":
            return _quiet(
                client,
                lambda peer: scu.change_state(peer, uid, WorkitemState.COMPLETED, transaction),
            )
        case "cancel":
            return lambda peer: _cancel(client, peer, uid, keys, transaction)
        case "request-cancel":
            information = keys if keys.elements else None
            return _quiet(client, lambda peer: scu.request_cancel(peer, uid, information))
        case "subscribe":
            place = uid or (FILTERED_SUBSCRIPTION if keys.elements else GLOBAL_SUBSCRIPTION)
            return _quiet(
                client,
                lambda peer: scu.subscribe(
                    peer, receiver, place, has_lock=arguments.lock, keys=keys
                ),
            )
        case "unsubscribe":
            place = uid or GLOBAL_SUBSCRIPTION
            return _quiet(client, lambda peer: scu.unsubscribe(peer, receiver, place))
        case _:
            return _quiet(client, lambda peer: scu.suspend(peer, receiver))


def _new(arguments: argparse.Namespace) -> AttributeList:
    if not arguments.label:
        raise UsageError("what is to be done? Give --label TEXT")
    made = scu.new_workitem(
        arguments.label,
        start=datetime.now(UTC),
        worklist_label=arguments.worklist_label,
        priority=arguments.priority,
        input_readiness=arguments.readiness,
    )
    if not arguments.label.isascii() or not arguments.worklist_label.isascii():
        made.SpecificCharacterSet = "ISO_IR 192"
    attributes = AttributeList.from_dataset(made)
    start = [f"ScheduledProcedureStepStartDateTime={arguments.start}"] if arguments.start else []
    return attributes.updated(_keys(start))


def _keys(said: Sequence[str]) -> AttributeList:
    if not said:
        return AttributeList({})
    encoded = build_identifier(map(parse_key, said), None, EXPLICIT_VR_LITTLE_ENDIAN)
    return AttributeList.read(encoded, EXPLICIT_VR_LITTLE_ENDIAN)


def _progress(percent: int | None) -> AttributeList:
    if percent is None:
        return AttributeList({})
    item = {PROGRESS: element(PROGRESS, "DS", str(percent))}
    return AttributeList({PROGRESS_INFORMATION: sequence(PROGRESS_INFORMATION, item)})


def _quiet(client: Client, ask: Callable[[ClientAssociation], Awaitable[NServiceResponse]]) -> _Do:
    async def do(association: ClientAssociation) -> int:
        return _tell(client, await ask(association))

    return do


def _printing(
    client: Client, text: str, ask: Callable[[ClientAssociation], Awaitable[NServiceResponse]]
) -> _Do:
    """The one thing that scripts want is printed when the peer has taken it."""

    async def do(association: ClientAssociation) -> int:
        code = _tell(client, await ask(association))
        if code == EXIT_OK:
            print(shown(text))
        return code

    return do


async def _cancel(
    client: Client, association: ClientAssociation, uid: str, keys: AttributeList, transaction: str
) -> int:
    """Set when it was cancelled, and what else is said, then its state."""
    at = element(CANCELLED_AT, "DT", date_time(datetime.now(UTC).timestamp()))
    said = {CANCELLED_AT: at}
    item = AttributeList({PROGRESS_INFORMATION: sequence(PROGRESS_INFORMATION, said)})
    await scu.set_workitem(association, uid, keys.updated(item), transaction)
    answer = await scu.change_state(association, uid, WorkitemState.CANCELED, transaction)
    return _tell(client, answer)


async def _find(
    client: Client, arguments: argparse.Namespace, association: ClientAssociation
) -> int:
    asked = dict(map(parse_key, arguments.key))
    for name in _SHOWN:
        asked.setdefault(name, "")
    encoded = build_identifier(asked.items(), None, EXPLICIT_VR_LITTLE_ENDIAN)
    keys = AttributeList.read(encoded, EXPLICIT_VR_LITTLE_ENDIAN)
    out = prepare_stdout(arguments.output)
    writer = writer_of(arguments.output, out, ())
    count = 0
    async for match in scu.find_workitems(association, keys):
        writer.write(Match.of_dataset(match))
        count += 1
    writer.finish()
    return EXIT_OK if count else EXIT_FAILED


async def _get(
    client: Client, arguments: argparse.Namespace, association: ClientAssociation, uid: str
) -> int:
    answer = await scu.get_workitem(association, uid)
    code = _tell(client, answer)
    if answer.attributes is not None:
        writer = writer_of(arguments.output, prepare_stdout(arguments.output), ())
        writer.write(Match.of_attributes(answer.attributes))
        writer.finish()
    return code


def _tell(client: Client, answer: NServiceResponse) -> int:
    status = answer.status
    words = describe_status(status, ServiceClass.UNIFIED_PROCEDURE_STEP)
    more = f": {shown(answer.text)}" if answer.text else ""
    kind = classify(status)
    if kind is StatusClass.WARNING:
        client.terminal.note(f"the peer answered {status:04X}H {words}{more}")
    elif kind is not StatusClass.SUCCESS:
        client.terminal.error(f"the peer answered {status:04X}H {words}{more}")
        return EXIT_FAILED
    return EXIT_OK


def _uid(text: str) -> str:
    if not is_safe_uid(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no UID")
    return text


def _percent(text: str) -> int:
    if not text.isdecimal() or int(text) > 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 100")
    return int(text)
