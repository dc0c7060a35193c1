"""Routes of the administration API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.routing import Route
from isocenter.services.web.mark_documents import MarkDocuments
from isocenter.services.web.parts import WebParts
from isocenter.services.web.rest.ai_services import AiServiceApi
from isocenter.services.web.rest.annotations import AnnotationApi
from isocenter.services.web.rest.assessments import AssessmentApi
from isocenter.services.web.rest.associations import AssociationApi
from isocenter.services.web.rest.audit import AuditApi
from isocenter.services.web.rest.browse import BrowseApi
from isocenter.services.web.rest.certificates import CertificateApi
from isocenter.services.web.rest.cluster import ClusterApi
from isocenter.services.web.rest.configuration import ConfigurationApi
from isocenter.services.web.rest.conflicts import ConflictApi
from isocenter.services.web.rest.corrections import CorrectionApi
from isocenter.services.web.rest.database import DatabaseApi
from isocenter.services.web.rest.deidentification import DeidentificationApi
from isocenter.services.web.rest.devices import DeviceApi
from isocenter.services.web.rest.digests import DigestApi
from isocenter.services.web.rest.forwarding import ForwardingApi
from isocenter.services.web.rest.image_values import ImageValuesApi
from isocenter.services.web.rest.job_stream import JobStreams
from isocenter.services.web.rest.jobs import JobApi
from isocenter.services.web.rest.key_images import KeyImageApi
from isocenter.services.web.rest.links import LinkApi
from isocenter.services.web.rest.locks import LockApi
from isocenter.services.web.rest.mark_documents import MarkDocumentsApi
from isocenter.services.web.rest.measurements import MeasurementApi
from isocenter.services.web.rest.monitoring import MonitoringApi
from isocenter.services.web.rest.patient_identities import PatientIdentityApi
from isocenter.services.web.rest.print_jobs import PrintJobApi
from isocenter.services.web.rest.publications import PublicationApi
from isocenter.services.web.rest.quarantine import QuarantineApi
from isocenter.services.web.rest.reconciliation import ReconciliationApi
from isocenter.services.web.rest.rejection_notes import RejectionApi
from isocenter.services.web.rest.remote_nodes import NodeApi
from isocenter.services.web.rest.retention import RetentionApi
from isocenter.services.web.rest.roles import RoleApi
from isocenter.services.web.rest.rules import RuleApi
from isocenter.services.web.rest.settings_groups import SettingsGroupApi
from isocenter.services.web.rest.shared_studies import SharedStudiesApi
from isocenter.services.web.rest.sign_in import SignInApi
from isocenter.services.web.rest.signatures import SignatureApi
from isocenter.services.web.rest.system import SystemApi
from isocenter.services.web.rest.tasks import TaskApi
from isocenter.services.web.rest.thumbnails import ThumbnailsApi
from isocenter.services.web.rest.tiers import TierApi
from isocenter.services.web.rest.tokens import TokenApi
from isocenter.services.web.rest.trash import TrashApi
from isocenter.services.web.rest.users import UserApi
from isocenter.services.web.rest.validation import ValidationApi
from isocenter.services.web.rest.viewer_states import ViewerStatesApi
from isocenter.services.web.rest.worklist import WorklistApi


def rest_routes(parts: WebParts) -> Sequence[Route[Handler]]:
    """All of the API that these parts make possible, subject by subject."""
    return [
        *_of_system(parts),
        *_of_security(parts),
        *_of_studies(parts),
        *_of_workflow(parts),
    ]


def _of_system(parts: WebParts) -> Iterator[Route[Handler]]:
    yield from SystemApi(parts.version, parts.state).routes()
    if parts.configuration is not None:
        yield from ConfigurationApi(parts.configuration).routes()
        yield from SettingsGroupApi(parts.configuration).routes()
    if parts.processes is not None:
        live = AssociationApi(parts.processes, parts.state)
        yield from live.routes()
    if parts.streams is not None:
        yield from parts.streams.routes()
    figures = MonitoringApi(
        parts.state,
        metrics=parts.metrics,
        usage=parts.usage,
        checks=parts.checks,
        processes=parts.processes,
    )
    yield from figures.routes()
    if parts.database is not None:
        yield from DatabaseApi(parts.database, parts.state).routes()
    if parts.nodes_of_archive is not None:
        yield from ClusterApi(parts.nodes_of_archive).routes()


def _of_security(parts: WebParts) -> Iterator[Route[Handler]]:
    yield from SignInApi(parts.sign_in).routes()
    if parts.users is not None and parts.sessions is not None:
        yield from UserApi(parts.users, parts.sessions, title=parts.title).routes()
    if parts.tokens is not None:
        yield from TokenApi(parts.tokens).routes()
    if parts.changes is not None and parts.rejected is not None:
        yield from RoleApi(parts.changes).routes()
        yield from DeviceApi(parts.changes, parts.rejected).routes()
    yield from CertificateApi(parts.certificates, parts.expiries).routes()
    if parts.trail is not None:
        yield from AuditApi(parts.trail, parts.notices).routes()


def _of_studies(parts: WebParts) -> Iterator[Route[Handler]]:
    yield from BrowseApi(parts.archive.index, parts.trash).routes()
    yield from DigestApi(parts.archive.index).routes()
    if parts.trash is not None:
        yield from TrashApi(parts.trash).routes()
        yield from QuarantineApi(parts.trash).routes()
    if parts.corrections is not None:
        yield from CorrectionApi(parts.corrections).routes()
    if parts.links is not None:
        yield from LinkApi(parts.links, parts.archive.index, parts.urls).routes()
    if parts.rejections is not None and parts.trash is not None:
        yield from RejectionApi(parts.rejections, parts.trash).routes()
    if parts.retention is not None and parts.holding is not None:
        yield from RetentionApi(parts.retention, parts.holding).routes()
    if parts.signatures is not None:
        yield from SignatureApi(
            parts.archive.index, parts.signatures, parts.signature_marks
        ).routes()
    if parts.validation is not None:
        yield from ValidationApi(parts.validation).routes()
    if parts.locks is not None:
        yield from LockApi(parts.locks).routes()
    if parts.tiers is not None:
        yield from TierApi(parts.tiers).routes()
    if parts.ai is not None:
        yield from AssessmentApi(parts.ai).routes()
    if parts.reconciliation is not None:
        yield from ReconciliationApi(parts.reconciliation).routes()
    if parts.identities is not None:
        yield from PatientIdentityApi(parts.identities).routes()
    viewing = parts.viewing
    if viewing is not None:
        yield from ImageValuesApi(parts.archive, viewing.book).routes()
        yield from ThumbnailsApi(parts.archive, viewing.pool).routes()
        yield from DeidentificationApi(parts.archive, viewing.pool).routes()
        marks, notices = viewing.marks, parts.notices
        yield from AnnotationApi(parts.archive, marks, notices).routes()
        yield from MeasurementApi(parts.archive, marks, notices, viewing.pool).routes()
        yield from KeyImageApi(parts.archive, marks, notices).routes()
        yield from MarkDocumentsApi(MarkDocuments(parts.archive, marks, notices)).routes()
        yield from ViewerStatesApi(viewing.states, viewing.recent).routes()


def _of_workflow(parts: WebParts) -> Iterator[Route[Handler]]:
    if parts.worklist is not None:
        yield from WorklistApi(parts.worklist).routes()
    if parts.rules is not None:
        yield from RuleApi(parts.rules).routes()
    if parts.prints is not None:
        yield from PrintJobApi(parts.prints).routes()
    if parts.queue is not None:
        yield from ForwardingApi(parts.queue, parts.notices).routes()
    if parts.nodes is not None:
        yield from NodeApi(parts.nodes).routes()
    if parts.jobs is not None:
        if parts.streams is not None:
            yield from JobStreams(parts.jobs, parts.streams).routes()
        yield from JobApi(parts.jobs).routes()
    if parts.ai is not None:
        yield from AiServiceApi(parts.ai).routes()
    if parts.publications is not None:
        yield from PublicationApi(parts.publications).routes()
    if parts.elsewhere is not None:
        yield from SharedStudiesApi(parts.elsewhere).routes()
    if parts.sync is not None:
        yield from ConflictApi(parts.sync).routes()
    if parts.tasks is not None:
        yield from TaskApi(parts.tasks).routes()
