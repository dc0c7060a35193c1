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
    from isocenter.services.service_classes.client import (
        BASIC_SYNTAXES,
        ClientAssociation,
        Receiver,
        RetrieveError,
        RetrieveProgress,
        RetrieveResult,
        open_association,
        plan_associations,
    )
    from isocenter.services.service_classes.normalized.operations import Answer, AnswerError
    from isocenter.services.service_classes.query_retrieve.find_scp import Find
    from isocenter.services.service_classes.query_retrieve.find_scu import Matches
    from isocenter.services.service_classes.query_retrieve.get_scp import Get
    from isocenter.services.service_classes.query_retrieve.identifier import (
        build_identifier,
        read_identifier,
    )
    from isocenter.services.service_classes.query_retrieve.move_scp import Move
    from isocenter.services.service_classes.storage.object_folder import (
        ObjectFolder,
        ReceivedCounts,
    )
    from isocenter.services.service_classes.storage.object_receiver import (
        ObjectHandler,
        ObjectReceiver,
        ReceivedObject,
    )
    from isocenter.services.service_classes.storage.scp import Storage
    from isocenter.services.service_classes.verification import Verification

#: Where each name is defined: in this package, or in a module by its whole name.
_MODULES = {
    "AccessPolicy": "association.access",
    "Answer": "service_classes.normalized.operations",
    "AnswerError": "service_classes.normalized.operations",
    "Archive": "archive.archive",
    "AssociationError": "isocenter.engine.errors",
    "AssociationRejectedError": "isocenter.engine.errors",
    "BASIC_SYNTAXES": "service_classes.client",
    "Bind": "net.listeners",
    "ClientAssociation": "service_classes.client",
    "ConnectError": "errors",
    "DeadlineExceeded": "isocenter.engine.errors",
    "Deadlines": "isocenter.engine.deadlines",
    "DicomObject": "dicom.objects",
    "Find": "service_classes.query_retrieve.find_scp",
    "Get": "service_classes.query_retrieve.get_scp",
    "IsocenterError": "isocenter.engine.errors",
    "Level": "archive.index.attributes",
    "LocalProtocolError": "isocenter.engine.errors",
    "Matches": "service_classes.query_retrieve.find_scu",
    "Move": "service_classes.query_retrieve.move_scp",
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
    "Receiver": "service_classes.client",
    "Registry": "association.service_registry",
    "RetrieveError": "service_classes.client",
    "RetrieveProgress": "service_classes.client",
    "RetrieveResult": "service_classes.client",
    "STORAGE_SOP_CLASSES": "dicom.uid_registry",
    "STUDY_ROOT_FIND": "dicom.uid_registry",
    "STUDY_ROOT_GET": "dicom.uid_registry",
    "STUDY_ROOT_MOVE": "dicom.uid_registry",
    "Server": "association.server",
    "ServerLimits": "association.server",
    "Service": "association.service_registry",
    "Status": "isocenter.engine.dimse.status",
    "Storage": "service_classes.storage.scp",
    "TRANSFER_SYNTAXES": "dicom.uid_registry",
    "TlsFiles": "net.tls.contexts",
    "VERIFICATION": "isocenter.engine.uid",
    "Verification": "service_classes.verification",
    "build_identifier": "service_classes.query_retrieve.identifier",
    "client_context": "net.tls.contexts",
    "open_association": "service_classes.client",
    "plan_associations": "service_classes.client",
    "read_identifier": "service_classes.query_retrieve.identifier",
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
