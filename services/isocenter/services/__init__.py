"""Associations under trio, the service classes, and everything a server is made of.

What users of the library need stands here; each name is imported when it is first
asked for, so that a small tool pays for what it uses.

    from isocenter.services import Peer, open_association, serve
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isocenter.engine.deadlines import Deadlines
    from isocenter.engine.dimse.status import Status
    from isocenter.engine.errors import (
        AssociationError,
        AssociationRejectedError,
        DeadlineExceeded,
        IsocenterError,
        LocalProtocolError,
    )
    from isocenter.engine.negotiation import Offer
    from isocenter.engine.uid import VERIFICATION
    from isocenter.services.archive.archive import Archive
    from isocenter.services.archive.index.attributes import Level
    from isocenter.services.association.access import AccessPolicy
    from isocenter.services.association.operation import Operation
    from isocenter.services.association.peer import Peer
    from isocenter.services.association.server import Server, ServerLimits, serve
    from isocenter.services.association.service_registry import Registry, Service
    from isocenter.services.client import (
        BASIC_SYNTAXES,
        ClientAssociation,
        Receiver,
        RetrieveError,
        RetrieveProgress,
        RetrieveResult,
        open_association,
        plan_associations,
    )
    from isocenter.services.dicom.objects import DicomObject, NotDicom
    from isocenter.services.dicom.uid_registry import (
        PATIENT_ROOT_FIND,
        PATIENT_ROOT_GET,
        PATIENT_ROOT_MOVE,
        STORAGE_SOP_CLASSES,
        STUDY_ROOT_FIND,
        STUDY_ROOT_GET,
        STUDY_ROOT_MOVE,
        TRANSFER_SYNTAXES,
    )
    from isocenter.services.errors import ConnectError, NoPresentationContext, OperationError
    from isocenter.services.net.listeners import Bind
    from isocenter.services.net.tls.contexts import TlsFiles, client_context, server_context
    from isocenter.services.normalized.operations import Answer, AnswerError
    from isocenter.services.query_retrieve.find import Find
    from isocenter.services.query_retrieve.get import Get
    from isocenter.services.query_retrieve.identifier import build_identifier, read_identifier
    from isocenter.services.query_retrieve.matches import Matches
    from isocenter.services.query_retrieve.move import Move
    from isocenter.services.service_classes.storage.object_folder import (
        ObjectFolder,
        ReceivedCounts,
    )
    from isocenter.services.service_classes.storage.object_receiver import (
        ObjectHandler,
        ObjectReceiver,
        ReceivedObject,
    )
    from isocenter.services.store import Storage
    from isocenter.services.verification import Verification

#: Where each name is defined: in this package, or in a module by its whole name.
_MODULES = {
    "AccessPolicy": "association.access",
    "Answer": "normalized.operations",
    "AnswerError": "normalized.operations",
    "Archive": "archive.archive",
    "AssociationError": "isocenter.engine.errors",
    "AssociationRejectedError": "isocenter.engine.errors",
    "BASIC_SYNTAXES": "client",
    "Bind": "net.listeners",
    "ClientAssociation": "client",
    "ConnectError": "errors",
    "DeadlineExceeded": "isocenter.engine.errors",
    "Deadlines": "isocenter.engine.deadlines",
    "DicomObject": "dicom.objects",
    "Find": "query_retrieve.find",
    "Get": "query_retrieve.get",
    "IsocenterError": "isocenter.engine.errors",
    "Level": "archive.index.attributes",
    "LocalProtocolError": "isocenter.engine.errors",
    "Matches": "query_retrieve.matches",
    "Move": "query_retrieve.move",
    "NoPresentationContext": "errors",
    "NotDicom": "dicom.objects",
    "ObjectFolder": "service_classes.storage.object_folder",
    "ObjectHandler": "service_classes.storage.object_receiver",
    "ObjectReceiver": "service_classes.storage.object_receiver",
    "Offer": "isocenter.engine.negotiation",
    "Operation": "association.operation",
    "OperationError": "errors",
    "PATIENT_ROOT_FIND": "dicom.uid_registry",
    "PATIENT_ROOT_GET": "dicom.uid_registry",
    "PATIENT_ROOT_MOVE": "dicom.uid_registry",
    "Peer": "association.peer",
    "ReceivedCounts": "service_classes.storage.object_folder",
    "ReceivedObject": "service_classes.storage.object_receiver",
    "Receiver": "client",
    "Registry": "association.service_registry",
    "RetrieveError": "client",
    "RetrieveProgress": "client",
    "RetrieveResult": "client",
    "STORAGE_SOP_CLASSES": "dicom.uid_registry",
    "STUDY_ROOT_FIND": "dicom.uid_registry",
    "STUDY_ROOT_GET": "dicom.uid_registry",
    "STUDY_ROOT_MOVE": "dicom.uid_registry",
    "Server": "association.server",
    "ServerLimits": "association.server",
    "Service": "association.service_registry",
    "Status": "isocenter.engine.dimse.status",
    "Storage": "store",
    "TRANSFER_SYNTAXES": "dicom.uid_registry",
    "TlsFiles": "net.tls.contexts",
    "VERIFICATION": "isocenter.engine.uid",
    "Verification": "verification",
    "build_identifier": "query_retrieve.identifier",
    "client_context": "net.tls.contexts",
    "open_association": "client",
    "plan_associations": "client",
    "read_identifier": "query_retrieve.identifier",
    "serve": "association.server",
    "server_context": "net.tls.contexts",
}

__all__ = [
    "AccessPolicy",
    "Answer",
    "AnswerError",
    "Archive",
    "AssociationError",
    "AssociationRejectedError",
    "BASIC_SYNTAXES",
    "Bind",
    "ClientAssociation",
    "ConnectError",
    "DeadlineExceeded",
    "Deadlines",
    "DicomObject",
    "Find",
    "Get",
    "IsocenterError",
    "Level",
    "LocalProtocolError",
    "Matches",
    "Move",
    "NoPresentationContext",
    "NotDicom",
    "ObjectFolder",
    "ObjectHandler",
    "ObjectReceiver",
    "Offer",
    "Operation",
    "OperationError",
    "PATIENT_ROOT_FIND",
    "PATIENT_ROOT_GET",
    "PATIENT_ROOT_MOVE",
    "Peer",
    "ReceivedCounts",
    "ReceivedObject",
    "Receiver",
    "Registry",
    "RetrieveError",
    "RetrieveProgress",
    "RetrieveResult",
    "STORAGE_SOP_CLASSES",
    "STUDY_ROOT_FIND",
    "STUDY_ROOT_GET",
    "STUDY_ROOT_MOVE",
    "Server",
    "ServerLimits",
    "Service",
    "Status",
    "Storage",
    "TRANSFER_SYNTAXES",
    "TlsFiles",
    "VERIFICATION",
    "Verification",
    "build_identifier",
    "client_context",
    "open_association",
    "plan_associations",
    "read_identifier",
    "serve",
    "server_context",
]


def __getattr__(name: str) -> object:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    whole = module if module.startswith("isocenter.") else f"{__name__}.{module}"
    return getattr(import_module(whole), name)


def __dir__() -> list[str]:
    return sorted(__all__)
