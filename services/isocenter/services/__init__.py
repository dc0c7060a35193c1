"""Associations under trio, the service classes, and everything a server is made of.

What users of the library need stands here; each name is imported when it is first
asked for, so that a small tool pays for what it uses.  Types in signatures that do not stand
here are the engine's (`isocenter.engine`), or come from what does.

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
    from isocenter.services.archive.stored_objects import stored_object
    from isocenter.services.association.access import AeTitleRules
    from isocenter.services.association.operation import Operation
    from isocenter.services.association.peer import Peer
    from isocenter.services.association.requestor import Context
    from isocenter.services.association.server import Server, ServerLimits, ServerOptions, serve
    from isocenter.services.association.service_registry import (
        COMMON_STATUSES,
        Service,
        ServiceRegistry,
        Statuses,
    )
    from isocenter.services.dicom.attribute_list import AttributeList
    from isocenter.services.dicom.attribute_path import KeySyntaxError
    from isocenter.services.dicom.data_set import Attribute, DataSet, open_dicom
    from isocenter.services.dicom.file_recognition import DamagedFileError
    from isocenter.services.dicom.model_edits import NoSuchValueError
    from isocenter.services.dicom.model_reader import ModelError
    from isocenter.services.dicom.objects import DicomObject, NotDicomFileError
    from isocenter.services.dicom.pixels.pool import CodecPool, PoolLimits
    from isocenter.services.dicom.pixels.rendering.options import (
        WINDOW_PRESETS,
        ColourSpace,
        RenderOptionError,
        RenderOptions,
        Viewport,
        VoiFunction,
        Window,
    )
    from isocenter.services.dicom.pixels.rendering.renderer import (
        RenderedImage,
        Renderer,
        open_renderer,
        render,
        thumbnail,
    )
    from isocenter.services.dicom.pydicom_datasets import read_identifier
    from isocenter.services.dicom.uid_registry import (
        BASIC_SYNTAXES,
        PATIENT_ROOT_FIND,
        PATIENT_ROOT_GET,
        PATIENT_ROOT_MOVE,
        STORAGE_SOP_CLASSES,
        STUDY_ROOT_FIND,
        STUDY_ROOT_GET,
        STUDY_ROOT_MOVE,
        TRANSFER_SYNTAXES,
    )
    from isocenter.services.errors import ConnectError, NoPresentationContextError, OperationError
    from isocenter.services.net.http.client import HttpDeadlines, Retries
    from isocenter.services.net.http.client_errors import (
        BrokenAnswerError,
        HttpClientError,
        HttpStatusError,
        ServerUnreachableError,
    )
    from isocenter.services.net.listeners import ListenAddress
    from isocenter.services.net.tls.contexts import TlsFiles, client_context, server_context
    from isocenter.services.service_classes.client import (
        ClientAssociation,
        Receiver,
        RetrieveError,
        RetrieveProgress,
        RetrieveResult,
        open_association,
    )
    from isocenter.services.service_classes.normalized.operations import (
        AnswerError,
        NServiceResponse,
        n_action,
        n_create,
        n_get,
        n_set,
    )
    from isocenter.services.service_classes.plugin import (
        HealthCheck,
        PluginConnect,
        PluginContext,
        PluginCounter,
        PluginGauge,
        PluginHistogram,
        PluginMonitor,
        PluginSetting,
        PluginSopClass,
        ServicePlugin,
    )
    from isocenter.services.service_classes.query_retrieve.find_scp import FindScp
    from isocenter.services.service_classes.query_retrieve.find_scu import FindResults
    from isocenter.services.service_classes.query_retrieve.get_scp import GetScp
    from isocenter.services.service_classes.query_retrieve.identifier_builder import (
        build_identifier,
    )
    from isocenter.services.service_classes.query_retrieve.move_scp import MoveScp
    from isocenter.services.service_classes.query_retrieve.queries import (
        Query,
        instances,
        patients,
        series,
        studies,
    )
    from isocenter.services.service_classes.storage.contexts import plan_associations
    from isocenter.services.service_classes.storage.object_folder import (
        ObjectFolder,
        ReceivedCounts,
    )
    from isocenter.services.service_classes.storage.object_receiver import (
        ObjectHandler,
        ObjectReceiver,
        ReceivedObject,
    )
    from isocenter.services.service_classes.storage.retrieve_contexts import retrieve_contexts
    from isocenter.services.service_classes.storage.scp import StorageScp
    from isocenter.services.service_classes.verification import VerificationScp
    from isocenter.services.web.client.client import DicomWebClient
    from isocenter.services.web.client.download import Downloaded
    from isocenter.services.web.client.models import dataset_of
    from isocenter.services.web.client.object_files import DownloadFolder
    from isocenter.services.web.client.parts import AnswerPart, AnswerParts
    from isocenter.services.web.client.resources import WebResource
    from isocenter.services.web.client.search import SearchResults
    from isocenter.services.web.client.storing import ObjectOutcome

#: Where each name is defined: in this package, or in a module by its whole name.
_MODULES = {
    "Peer": "association.peer",
    "open_association": "service_classes.client",
    "ClientAssociation": "service_classes.client",
    "Context": "association.requestor",
    "BASIC_SYNTAXES": "dicom.uid_registry",
    "plan_associations": "service_classes.storage.contexts",
    "retrieve_contexts": "service_classes.storage.retrieve_contexts",
    "Query": "service_classes.query_retrieve.queries",
    "patients": "service_classes.query_retrieve.queries",
    "studies": "service_classes.query_retrieve.queries",
    "series": "service_classes.query_retrieve.queries",
    "instances": "service_classes.query_retrieve.queries",
    "build_identifier": "service_classes.query_retrieve.identifier_builder",
    "read_identifier": "dicom.pydicom_datasets",
    "Level": "archive.index.attributes",
    "FindResults": "service_classes.query_retrieve.find_scu",
    "RetrieveResult": "service_classes.client",
    "RetrieveProgress": "service_classes.client",
    "RetrieveError": "service_classes.client",
    "Receiver": "service_classes.client",
    "NServiceResponse": "service_classes.normalized.operations",
    "AnswerError": "service_classes.normalized.operations",
    "n_create": "service_classes.normalized.operations",
    "n_set": "service_classes.normalized.operations",
    "n_get": "service_classes.normalized.operations",
    "n_action": "service_classes.normalized.operations",
    "AttributeList": "dicom.attribute_list",
    "DicomWebClient": "web.client.client",
    "WebResource": "web.client.resources",
    "SearchResults": "web.client.search",
    "dataset_of": "web.client.models",
    "AnswerParts": "web.client.parts",
    "AnswerPart": "web.client.parts",
    "DownloadFolder": "web.client.object_files",
    "Downloaded": "web.client.download",
    "ObjectOutcome": "web.client.storing",
    "HttpDeadlines": "net.http.client",
    "Retries": "net.http.client",
    "Attribute": "dicom.data_set",
    "DataSet": "dicom.data_set",
    "NoSuchValueError": "dicom.model_edits",
    "open_dicom": "dicom.data_set",
    "DicomObject": "dicom.objects",
    "NotDicomFileError": "dicom.objects",
    "DamagedFileError": "dicom.file_recognition",
    "CodecPool": "dicom.pixels.pool",
    "PoolLimits": "dicom.pixels.pool",
    "render": "dicom.pixels.rendering.renderer",
    "thumbnail": "dicom.pixels.rendering.renderer",
    "open_renderer": "dicom.pixels.rendering.renderer",
    "Renderer": "dicom.pixels.rendering.renderer",
    "RenderedImage": "dicom.pixels.rendering.renderer",
    "RenderOptions": "dicom.pixels.rendering.options",
    "RenderOptionError": "dicom.pixels.rendering.options",
    "Window": "dicom.pixels.rendering.options",
    "VoiFunction": "dicom.pixels.rendering.options",
    "WINDOW_PRESETS": "dicom.pixels.rendering.options",
    "Viewport": "dicom.pixels.rendering.options",
    "ColourSpace": "dicom.pixels.rendering.options",
    "ObjectReceiver": "service_classes.storage.object_receiver",
    "ReceivedObject": "service_classes.storage.object_receiver",
    "ObjectHandler": "service_classes.storage.object_receiver",
    "ObjectFolder": "service_classes.storage.object_folder",
    "ReceivedCounts": "service_classes.storage.object_folder",
    "serve": "association.server",
    "Server": "association.server",
    "ServerLimits": "association.server",
    "ServerOptions": "association.server",
    "ListenAddress": "net.listeners",
    "AeTitleRules": "association.access",
    "ServiceRegistry": "association.service_registry",
    "Service": "association.service_registry",
    "Statuses": "association.service_registry",
    "COMMON_STATUSES": "association.service_registry",
    "Operation": "association.operation",
    "Offer": "isocenter.engine.negotiation",
    "VerificationScp": "service_classes.verification",
    "ServicePlugin": "service_classes.plugin",
    "PluginSopClass": "service_classes.plugin",
    "PluginSetting": "service_classes.plugin",
    "PluginContext": "service_classes.plugin",
    "PluginConnect": "service_classes.plugin",
    "PluginMonitor": "service_classes.plugin",
    "HealthCheck": "service_classes.plugin",
    "PluginCounter": "service_classes.plugin",
    "PluginGauge": "service_classes.plugin",
    "PluginHistogram": "service_classes.plugin",
    "Archive": "archive.archive",
    "stored_object": "archive.stored_objects",
    "StorageScp": "service_classes.storage.scp",
    "FindScp": "service_classes.query_retrieve.find_scp",
    "GetScp": "service_classes.query_retrieve.get_scp",
    "MoveScp": "service_classes.query_retrieve.move_scp",
    "TlsFiles": "net.tls.contexts",
    "client_context": "net.tls.contexts",
    "server_context": "net.tls.contexts",
    "Deadlines": "isocenter.engine.deadlines",
    "IsocenterError": "isocenter.engine.errors",
    "ConnectError": "errors",
    "AssociationError": "isocenter.engine.errors",
    "AssociationRejectedError": "isocenter.engine.errors",
    "DeadlineExceeded": "isocenter.engine.errors",
    "NoPresentationContextError": "errors",
    "KeySyntaxError": "dicom.attribute_path",
    "LocalProtocolError": "isocenter.engine.errors",
    "OperationError": "errors",
    "HttpClientError": "net.http.client_errors",
    "ServerUnreachableError": "net.http.client_errors",
    "HttpStatusError": "net.http.client_errors",
    "BrokenAnswerError": "net.http.client_errors",
    "ModelError": "dicom.model_reader",
    "Status": "isocenter.engine.dimse.status",
    "VERIFICATION": "isocenter.engine.uid",
    "PATIENT_ROOT_FIND": "dicom.uid_registry",
    "PATIENT_ROOT_GET": "dicom.uid_registry",
    "PATIENT_ROOT_MOVE": "dicom.uid_registry",
    "STUDY_ROOT_FIND": "dicom.uid_registry",
    "STUDY_ROOT_GET": "dicom.uid_registry",
    "STUDY_ROOT_MOVE": "dicom.uid_registry",
    "STORAGE_SOP_CLASSES": "dicom.uid_registry",
    "TRANSFER_SYNTAXES": "dicom.uid_registry",
}

__all__ = [
    # asking a peer
    "Peer",
    "open_association",
    "ClientAssociation",
    "Context",
    "BASIC_SYNTAXES",
    "plan_associations",
    "retrieve_contexts",
    "build_identifier",
    "Query",
    "patients",
    "studies",
    "series",
    "instances",
    "read_identifier",
    "Level",
    "FindResults",
    "RetrieveResult",
    "RetrieveProgress",
    "RetrieveError",
    "Receiver",
    "NServiceResponse",
    "AnswerError",
    "n_create",
    "n_set",
    "n_get",
    "n_action",
    "AttributeList",
    # DICOMweb
    "DicomWebClient",
    "WebResource",
    "SearchResults",
    "dataset_of",
    "AnswerParts",
    "AnswerPart",
    "DownloadFolder",
    "Downloaded",
    "ObjectOutcome",
    "HttpDeadlines",
    "Retries",
    # objects
    "Attribute",
    "DataSet",
    "DicomObject",
    "NotDicomFileError",
    "DamagedFileError",
    "NoSuchValueError",
    "open_dicom",
    # pictures
    "render",
    "thumbnail",
    "open_renderer",
    "Renderer",
    "RenderedImage",
    "RenderOptions",
    "RenderOptionError",
    "Window",
    "VoiFunction",
    "WINDOW_PRESETS",
    "Viewport",
    "ColourSpace",
    "CodecPool",
    "PoolLimits",
    # receiving
    "ObjectReceiver",
    "ReceivedObject",
    "ObjectHandler",
    "ObjectFolder",
    "ReceivedCounts",
    # serving
    "serve",
    "Server",
    "ServerLimits",
    "ServerOptions",
    "ListenAddress",
    "AeTitleRules",
    "ServiceRegistry",
    "Service",
    "Statuses",
    "COMMON_STATUSES",
    "Operation",
    "Offer",
    "VerificationScp",
    # plug-ins
    "ServicePlugin",
    "PluginSopClass",
    "PluginSetting",
    "PluginContext",
    "PluginConnect",
    "PluginMonitor",
    "HealthCheck",
    "PluginCounter",
    "PluginGauge",
    "PluginHistogram",
    # an archive
    "Archive",
    "stored_object",
    "StorageScp",
    "FindScp",
    "GetScp",
    "MoveScp",
    # TLS
    "TlsFiles",
    "client_context",
    "server_context",
    # deadlines
    "Deadlines",
    # errors and statuses
    "IsocenterError",
    "ConnectError",
    "AssociationError",
    "AssociationRejectedError",
    "DeadlineExceeded",
    "NoPresentationContextError",
    "KeySyntaxError",
    "LocalProtocolError",
    "OperationError",
    "HttpClientError",
    "ServerUnreachableError",
    "HttpStatusError",
    "BrokenAnswerError",
    "ModelError",
    "Status",
    # SOP classes and transfer syntaxes
    "VERIFICATION",
    "PATIENT_ROOT_FIND",
    "PATIENT_ROOT_GET",
    "PATIENT_ROOT_MOVE",
    "STUDY_ROOT_FIND",
    "STUDY_ROOT_GET",
    "STUDY_ROOT_MOVE",
    "STORAGE_SOP_CLASSES",
    "TRANSFER_SYNTAXES",
]


def __getattr__(name: str) -> object:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    whole = module if module.startswith("isocenter.") else f"{__name__}.{module}"
    return getattr(import_module(whole), name)


def __dir__() -> list[str]:
    return sorted(__all__)
