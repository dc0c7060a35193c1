"""``isocenter mppsscu``: create and set performed procedure steps (PS3.4 Annex F)."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson
import trio

from isocenter.engine.dataset import DataSetError
from isocenter.engine.dimse.status import (
    ServiceClass,
    StatusClass,
    classify,
    describe_status,
)
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
from isocenter.services.cli.support.options import UsageError, ae_title, check_paths
from isocenter.services.cli.support.sent_files import files_below
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.dicom.attribute_path import parse_key
from isocenter.services.dicom.uids import new_uid
from isocenter.services.errors import NoPresentationContextError, text_of
from isocenter.services.service_classes.client import ClientAssociation
from isocenter.services.service_classes.mpps.performed_step import StepState
from isocenter.services.service_classes.mpps.scu import (
    CONTEXTS,
    code_item,
    create_step,
    empty_series,
    final_step,
    get_step,
    new_step,
    performed_series,
    set_step,
)
from isocenter.services.service_classes.normalized.operations import AnswerError, NServiceResponse
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.worklist.entry import InvalidEntryError
from isocenter.services.service_classes.worklist.entry_files import read_entries

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

DESCRIPTION: Final = """\
Modality performed procedure step as SCU.  ACTION is one of

  create                    begin a step (N-CREATE); prints its UID
  update UID                set attributes of it (N-SET) from -k and --json
  complete UID [FILE …]     end it; the objects that came of it are named from their files
  discontinue UID [FILE …]  give it up, with what came of it until then
  get UID                   print it (N-GET)
  set --mpps-uid UID --status COMPLETED|DISCONTINUED      complete or discontinue, in other words"""
EXAMPLES: Final = """\
examples:
  isocenter mppsscu RIS@localhost:11112 create --worklist entry.json --modality CT -aet CT1
  isocenter mppsscu RIS@localhost:11112 create --modality MR --study-uid 1.2.3 \\
                    -k PatientName=DOE^JANE -k PatientID=P1
  isocenter mppsscu RIS@localhost:11112 complete 2.25.17 images/ --protocol ABDOMEN
  isocenter mppsscu RIS@localhost:11112 discontinue 2.25.17 --reason 110513^DCM^Unspecified
  isocenter mppsscu RIS@localhost:11112 get 2.25.17 -o json
  isocenter mppsscu localhost 11112 RIS create --patient-id P1 --patient-name DOE^JANE
  isocenter mppsscu localhost 11112 RIS set --mpps-uid 2.25.17 --status COMPLETED

A worklist entry is a file as isocenter worklistscu -o json or isocenter findscu -W writes it.

exit codes: 0 the peer took it, 1 it did not, 2 arguments or no association"""

#: A file of attributes that is larger is none.
_MOST_BYTES: Final = 16 << 20
_CODE_PARTS: Final = 3
_TIME_FORMATS: Final = ("%Y%m%d%H%M%S", "%Y%m%d%H%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M")
_ACTIONS: Final = ("create", "update", "complete", "discontinue", "get", "set")
#: Of ``set``: what is asked for with it.
_ENDINGS: Final = {"COMPLETED": "complete", "DISCONTINUED": "discontinue"}
#: Of ``create --patient-id``, when nobody says the modality.
_USUAL_MODALITY: Final = "CT"


def add_arguments(parser: CommandParser) -> None:
    """The options of mppsscu."""
    add_network_options(
        parser, calling="MPPSSCU", timeout=30, what_follows="ACTION [UID] [FILE-OR-FOLDER …]"
    )
    group = parser.add_argument_group("what is said of the step")
    group.add_argument(
        "-k",
        "--key",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an attribute, by keyword or tag, also NAME[0].NAME=VALUE (repeatable); it takes the "
        "place of what else is known",
    )
    group.add_argument(
        "--json", type=Path, metavar="F", help="attributes as DICOM JSON (PS3.18 F), likewise"
    )
    group.add_argument(
        "--at",
        type=_moment,
        metavar="TIME",
        help="when it began or ended, as YYYYMMDDHHMMSS or YYYY-MM-DDTHH:MM:SS (default: now)",
    )
    group = parser.add_argument_group("create")
    group.add_argument("--uid", type=_uid, metavar="UID", help="its UID (default: a new one)")
    group.add_argument("--worklist", type=Path, metavar="F", help="the worklist entry it performs")
    group.add_argument("--modality", default="", metavar="M", help="CT, MR … (type 1)")
    group.add_argument("--patient-id", metavar="ID", help="-k PatientID=ID")
    group.add_argument("--patient-name", metavar="NAME", help="-k PatientName=NAME")
    group.add_argument(
        "--procedure-id",
        metavar="ID",
        help="Requested Procedure ID of the step, where there is no worklist entry",
    )
    group.add_argument("--study-uid", type=_uid, metavar="UID", help="study it is for")
    group.add_argument(
        "--step-id", default="", metavar="ID", help="Performed Procedure Step ID (default: made)"
    )
    group.add_argument(
        "--station",
        type=ae_title,
        metavar="AET",
        help="Performed Station AE Title (default: the calling AE title)",
    )
    group = parser.add_argument_group("complete and discontinue")
    group.add_argument(
        "--protocol",
        default="UNKNOWN",
        metavar="NAME",
        help="Protocol Name of series whose objects have none (default: %(default)s)",
    )
    group.add_argument(
        "--series",
        "--series-uid",
        action="append",
        default=[],
        type=_uid,
        metavar="UID",
        help="a series without objects (repeatable; default without files: a new one)",
    )
    group.add_argument(
        "--retrieve-from", default="", metavar="AET", help="Retrieve AE Title of the objects"
    )
    group.add_argument(
        "--reason",
        type=_reason,
        metavar="CODE^SCHEME^MEANING",
        help="why it was discontinued (PS3.16 CID 9300); other text becomes its comment",
    )
    group = parser.add_argument_group("set")
    group.add_argument("--mpps-uid", type=_uid, metavar="UID", help="which step")
    group.add_argument("--status", choices=tuple(_ENDINGS), help="what becomes of it")
    parser.add_argument(
        "-o",
        "--output",
        choices=("text", "json"),
        default="text",
        help="how get prints the step (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""

    async def work(client: Client, rest: list[str]) -> int:
        action, uid, paths = _action(rest, arguments)
        uid = uid or arguments.uid or new_uid()
        do = await _prepared(client, arguments, action, uid, paths)
        code = EXIT_FAILED
        async with client.associate(CONTEXTS) as association:
            with client.interrupts.stoppable():
                try:
                    answer = await do(association)
                except AnswerError as error:
                    code = _report(client, arguments, action, uid, error.answer)
                except (AssociationError, NoPresentationContextError) as error:
                    client.terminal.error(str(error))
                else:
                    code = _report(client, arguments, action, uid, answer)
        return EXIT_INTERRUPTED if client.interrupts.were_requested() else code

    return run_with_called_ae_title(arguments, lambda given: run_client(given, work), _ACTIONS)


def _action(rest: Sequence[str], arguments: argparse.Namespace) -> tuple[str, str, Sequence[str]]:
    """What to do, with which step, and the files that came of it."""
    if rest and rest[0] == "set":
        if arguments.mpps_uid is None or arguments.status is None:
            raise UsageError("set needs --mpps-uid UID and --status COMPLETED or DISCONTINUED")
        check_paths(rest[1:])
        return _ENDINGS[arguments.status], arguments.mpps_uid, rest[1:]
    if not rest or rest[0] not in _ACTIONS:
        raise UsageError(f"what? Give one of {', '.join(_ACTIONS)} behind the peer")
    action, *more = rest
    if action == "create":
        if more:
            raise UsageError(f"create takes no {more[0]!r}; a UID is given with --uid")
        return action, "", ()
    if not more or not is_safe_uid(more[0]):
        raise UsageError(f"which step? {action} needs its UID, as create printed it")
    uid, *paths = more
    if paths and action not in ("complete", "discontinue"):
        raise UsageError(f"{action} takes no files")
    check_paths(paths)
    return action, uid, paths


#: One operation, once there is an association.
_Do = Callable[[ClientAssociation], Awaitable[NServiceResponse]]


async def _prepared(
    client: Client, arguments: argparse.Namespace, action: str, uid: str, paths: Sequence[str]
) -> _Do:
    """What is to be sent, made before there is an association to wait for it."""
    at = arguments.at or datetime.now().astimezone()
    match action:
        case "get":
            return lambda association: get_step(association, uid)
        case "create":
            entry = None if arguments.worklist is None else _worklist_entry(arguments.worklist)
            step = new_step(
                performed_step_id=arguments.step_id or f"PPS{at:%y%m%d%H%M%S}",
                station_ae_title=arguments.station or client.calling_ae_title,
                modality=arguments.modality
                or (_USUAL_MODALITY if arguments.patient_id and entry is None else ""),
                started=at,
                worklist_entry=entry,
                study_instance_uid=arguments.study_uid or "",
            )
            if arguments.procedure_id is not None:
                scheduled = step.ScheduledStepAttributesSequence[0]
                scheduled.RequestedProcedureID = arguments.procedure_id
            step = _with_keys(step, arguments, _patient_keys(arguments))
            if not step.get("Modality"):
                raise UsageError(
                    "which modality? Give --modality, or a worklist entry that says it"
                )
            return lambda association: create_step(association, uid, step)
        case "update":
            from pydicom import Dataset

            changes = _with_keys(Dataset(), arguments)
            if not changes:
                raise UsageError("update what? Give -k NAME=VALUE or --json FILE")
            return lambda association: set_step(association, uid, changes)
        case _:
            series = await _series(client, arguments, paths)
            state = StepState.COMPLETED if action == "complete" else StepState.DISCONTINUED
            if arguments.reason is not None and state is StepState.COMPLETED:
                raise UsageError("--reason is for discontinue")
            code = None if isinstance(arguments.reason, str) else arguments.reason
            changes = final_step(state, ended=at, series=series, reason=code)
            if isinstance(arguments.reason, str):
                changes.CommentsOnThePerformedProcedureStep = arguments.reason
            changes = _with_keys(changes, arguments)
            return lambda association: set_step(association, uid, changes)


async def _series(
    client: Client, arguments: argparse.Namespace, paths: Sequence[str]
) -> list[Dataset]:
    headers: list[Dataset] = []
    with client.terminal.progress("reading", wanted=bool(paths)) as advance:
        for file in files_below(paths, "*"):
            if file.fault:
                raise UsageError(f"{file.path}: {file.fault}")
            header = await trio.to_thread.run_sync(_header, file.path)
            if header is None:
                client.terminal.note(f"{file.path}: no DICOM object; left out")
                continue
            headers.append(header)
            advance(len(headers), None)
    series = performed_series(
        headers, protocol_name=arguments.protocol, retrieve_ae_title=arguments.retrieve_from
    )
    series += [empty_series(uid, arguments.protocol) for uid in arguments.series]
    return series or [empty_series(new_uid(), arguments.protocol)]


_HEADER: Final = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "ProtocolName", "SeriesDescription",
    "PerformingPhysicianName", "OperatorsName",
)  # fmt: skip


def _header(path: str) -> Dataset | None:
    import pydicom

    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_HEADER))
    except (pydicom.errors.InvalidDicomError, OSError, ValueError, KeyError):
        return None
    is_whole = all(header.get(name) for name in _HEADER[:3])
    return header if is_whole else None


def _with_keys(
    dataset: Dataset, arguments: argparse.Namespace, more: Sequence[tuple[str, str]] = ()
) -> Dataset:
    """*dataset* with what ``--json``, *more* and ``-k`` say, the last of them last."""
    if arguments.json is not None:
        dataset.update(read_attributes(arguments.json))
    keys = [*more, *map(parse_key, arguments.key)]
    if keys:
        encoded = build_identifier(keys, None, EXPLICIT_VR_LITTLE_ENDIAN)
        given = AttributeList.read(encoded, EXPLICIT_VR_LITTLE_ENDIAN)
        try:
            known = AttributeList.from_dataset(dataset)
        except DataSetError as error:
            raise UsageError(f"{arguments.json or arguments.worklist}: {error}") from error
        return known.updated(given).to_dataset()
    return dataset


def _patient_keys(arguments: argparse.Namespace) -> list[tuple[str, str]]:
    """Keys of a new step that have an option of their own."""
    named = {"PatientID": arguments.patient_id, "PatientName": arguments.patient_name}
    return [(name, value) for name, value in named.items() if value is not None]


def _worklist_entry(path: Path) -> Dataset:
    """The first entry in a file; of DICOM and DICOM JSON, whatever of an entry there is."""
    try:
        entries = read_entries(path, str(path))
    except InvalidEntryError as fault:
        try:
            return read_attributes(path)
        except UsageError as error:
            raise UsageError(f"{error}; as a worklist entry: {fault}") from fault
    except OSError:
        return read_attributes(path)
    if not entries:
        return read_attributes(path)
    if len(entries) > 1:
        raise UsageError(
            f"{path} holds {len(entries)} worklist entries; a step performs one: narrow the query"
        )
    return entries[0][0].attributes.to_dataset()


def read_attributes(path: Path) -> Dataset:
    """The attributes in a file: DICOM, or DICOM JSON, of which the first object counts.

    Raises:
        UsageError: it is neither.
    """
    import pydicom

    try:
        content = path.read_bytes() if path.stat().st_size <= _MOST_BYTES else b""
    except OSError as error:
        raise UsageError(f"{path}: {text_of(error)}") from error
    try:
        if content.lstrip()[:1] in (b"{", b"["):
            model = orjson.loads(content)
            model = model[0] if isinstance(model, list) else model
            return pydicom.Dataset.from_json(model)
        return pydicom.Dataset(pydicom.dcmread(BytesIO(content), force=False))
    except Exception as error:
        # pydicom raises whatever its parts do; to the user it is one fault.
        raise UsageError(
            f"{path}: neither DICOM nor DICOM JSON ({type(error).__name__})"
        ) from error


def _report(
    client: Client, arguments: argparse.Namespace, action: str, uid: str, answer: NServiceResponse
) -> int:
    status = answer.status
    words = describe_status(status, ServiceClass.PROCEDURE_STEP)
    if classify(status) not in (StatusClass.SUCCESS, StatusClass.WARNING):
        more = f": {shown(answer.text)}" if answer.text else ""
        client.terminal.error(f"the peer answered {status:04X}H {words}{more}")
        return EXIT_FAILED
    if action == "get" and answer.attributes is not None:
        out = prepare_stdout(arguments.output)
        writer = writer_of(arguments.output, out, ())
        writer.write(Match.of_attributes(answer.attributes))
        writer.finish()
    elif action == "create":
        # The one thing that scripts want.
        print(shown(answer.sop_instance_uid or uid))
    client.terminal.detail(f"{action}: {status:04X}H {words}")
    return EXIT_OK


def _uid(text: str) -> str:
    if not is_safe_uid(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no UID")
    return text


def _moment(text: str) -> datetime:
    for form in _TIME_FORMATS:
        try:
            return datetime.strptime(text, form).astimezone()
        except ValueError:
            continue
    raise argparse.ArgumentTypeError(f"{text!r} is no time like 20240229120000")


def _reason(text: str) -> Dataset | str:
    return _code(text) if "^" in text else text


def _code(text: str) -> Dataset:
    parts = text.split("^")
    if len(parts) != _CODE_PARTS or not all(parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not CODE^SCHEME^MEANING")
    return code_item(*parts)
