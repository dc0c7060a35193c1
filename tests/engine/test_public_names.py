"""What `isocenter.engine` and `isocenter.engine.dimse` offer: pinned, so that a change is meant."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest

from isocenter import engine
from isocenter.engine import association, commands, dimse, effects, errors, events, negotiation

NAMES = """
Association Role Sta Limits DEFAULT_LIMITS describe

Command RequestAssociation AcceptAssociation RejectAssociation SendMessage SendDataSet
RequestRelease AcceptRelease Abort

Event AssociationRequested AssociationAccepted AssociationRejected MessageReceived
DataSetReceived CancelReceived ReleaseRequested AssociationReleased AssociationAborted
ProviderAborted

Effect OpenTransport SendBytes CloseTransport StartArtim StopArtim PeerFault

associate_request context_for end_reason refusal_of Refusal Incoming Arrived Sink Waiting
parts_of Part next_deadline Clock Moments Deadlines DEFAULT_DEADLINES

Acceptor Offer ANY storage_offer negotiate propose Negotiated PresentationContext AssociateRequest
AssociateAccept AssociateReject ProposedContext ContextResult UserInformation
AsynchronousOperationsWindow RoleSelection ExtendedNegotiation CommonExtendedNegotiation
UserIdentity FindFlags RetrieveFlags StorageSupport StorageLevel SignatureLevel ElementCoercion

Message Request Response CStoreRequest CStoreResponse CFindRequest CFindResponse CGetRequest
CGetResponse CMoveRequest CMoveResponse CEchoRequest CEchoResponse CCancelRequest
NEventReportRequest NEventReportResponse NGetRequest NGetResponse NSetRequest NSetResponse
NActionRequest NActionResponse NCreateRequest NCreateResponse NDeleteRequest NDeleteResponse
UnrecognizedMessage UnrecognizedMessageResponse is_request is_response
response_to sop_class_of sop_instance_of

Operations Outstanding SubOperations

Status StatusClass ServiceClass classify describe_status is_final

VERIFICATION STORAGE_ROOT IMPLICIT_VR_LITTLE_ENDIAN EXPLICIT_VR_LITTLE_ENDIAN
EXPLICIT_VR_BIG_ENDIAN DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN UNCOMPRESSED

Buffer check_ae_title is_ae_title is_uid is_safe_uid

IsocenterError ProtocolError LocalProtocolError RemoteProtocolError LimitExceeded
ErrorCode AssociationError DeadlineExceeded AssociationRejectedError AssociationAbortedError
ProviderAbortedError TransportLostError
"""
DIMSE_NAMES = """
CCancelRequest CEchoRequest CEchoResponse CFindRequest CFindResponse CGetRequest CGetResponse
CMoveRequest CMoveResponse CRequest CResponse CStoreRequest CStoreResponse NActionRequest
NActionResponse NCreateRequest NCreateResponse NDeleteRequest NDeleteResponse
NEventReportRequest NEventReportResponse NGetRequest NGetResponse NRequest NResponse NSetRequest
NSetResponse UnrecognizedMessage UnrecognizedMessageResponse Message Request Response
COMMAND_FIELDS RESPONSE_BIT encode_message decode_message is_request is_response
response_to sop_class_of sop_instance_of

FIELDS MESSAGES Field MessageRule Presence

Operations Outstanding SubOperations

Status StatusClass ServiceClass classify describe_status is_final service_class_of
"""


@pytest.mark.parametrize(("package", "names"), [(engine, NAMES), (dimse, DIMSE_NAMES)])
def test_the_public_names(package: ModuleType, names: str) -> None:
    assert sorted(package.__all__) == sorted(names.split())


@pytest.mark.parametrize("package", [engine, dimse])
def test_nothing_else_is_there(package: ModuleType) -> None:
    """But modules: those of the package itself."""
    others = {
        name
        for name, value in vars(package).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    } - set(package.__all__)
    assert others == {"annotations"}
    for name in package.__all__:
        getattr(package, name)


@pytest.mark.parametrize("union", [commands.Command, events.Event, effects.Effect, dimse.Message])
def test_the_unions_are_public_whole(union: object) -> None:
    """Who matches over a union finds each of its classes."""
    members = get_args(union)
    assert members
    assert [m.__name__ for m in members if getattr(engine, m.__name__, None) is not m] == []


def test_every_error_is_public() -> None:
    raised = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert raised - {"annotations"} <= set(engine.__all__)


def test_names_are_those_of_the_modules() -> None:
    assert engine.Association is association.Association
    assert engine.Role is negotiation.Role
    assert engine.Abort is commands.Abort


ALONE = """
import sys
before = set(sys.modules)
import isocenter.engine
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(loaded - set(sys.stdlib_module_names)))
print(*sorted(loaded & {"asyncio", "logging", "pathlib", "socket", "ssl", "threading"}))
"""


def test_the_import_brings_the_standard_library_only() -> None:
    """And little of it: that is what keeps it quick."""
    home = Path(engine.__file__).parents[2]
    code = f"import sys; sys.path.insert(0, {str(home)!r})\n{ALONE}"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    foreign, heavy = done.stdout.splitlines()
    assert foreign == "isocenter"
    assert heavy == ""
