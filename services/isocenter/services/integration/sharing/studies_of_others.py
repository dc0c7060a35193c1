"""Studies that others have shared: found by their manifests, and retrieved into the archive.

A manifest says where its instances can be had; they are retrieved only from a node of this archive,
or from the imaging document source that the settings have for the repository, by a job of its own:
nothing is asked of an address that only a document names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import trio

from isocenter.services.integration.sharing.manifest import AssigningAuthorities, ManifestError
from isocenter.services.integration.sharing.ports import (
    OpenSource,
    PublishingError,
    SharedDocument,
)
from isocenter.services.integration.sharing.received_manifest import (
    ReceivedManifest,
    read_manifest,
)
from isocenter.services.integration.sharing.repository import Repository
from isocenter.services.workflow.jobs.asker import Asker
from isocenter.services.workflow.jobs.desk import JobDesk
from isocenter.services.workflow.jobs.job import JobKind, JobRequest
from isocenter.services.workflow.nodes.node import Node
from isocenter.services.workflow.nodes.ports import NodeBook

_STUDY: Final = "StudyInstanceUID"


class StudiesOfOthers:
    """Asks repositories, and has studies retrieved.

    Args:
        repositories: by name, in their order.
        nodes: from which studies may be retrieved.
    """

    def __init__(
        self,
        repositories: Mapping[str, Repository],
        open_source: OpenSource,
        authorities: AssigningAuthorities,
        nodes: NodeBook,
        jobs: JobDesk,
    ) -> None:
        self.repositories = repositories
        self._open_source = open_source
        self._authorities = authorities
        self._nodes = nodes
        self._jobs = jobs

    async def find(
        self, repository: str, patient_id: str, issuer: str = ""
    ) -> Sequence[SharedDocument]:
        """Manifests of a patient of ours that a repository has.

        Raises:
            KeyError: there is no such repository.
            PublishingError: it refuses, or nobody outside knows who gave the Patient ID.
            HttpClientError: it cannot be reached, or cannot do it now.
        """
        found = self.repositories[repository]
        authority = self._authorities.of_patient(issuer)
        if not authority:
            raise PublishingError(
                "nobody outside knows who gave the Patient ID: set sharing.patient_authority, and "
                "sharing.issuers for IDs with an issuer"
            )
        async with self._open_source(found) as source:
            return await source.find(patient_id, authority)

    async def read(self, repository: str, document: SharedDocument) -> ReceivedManifest:
        """The manifest in a document.

        Raises:
            ManifestError: it is none, or another than its metadata say.
            PublishingError, HttpClientError: as of `find`.
        """
        async with self._open_source(self.repositories[repository]) as source:
            content = await source.retrieve(document)
        # That of a large study takes seconds.
        manifest = await trio.to_thread.run_sync(read_manifest, content)
        if document.uid and manifest.document_uid != document.uid:
            raise ManifestError("the document has another UID than its metadata say")
        if document.study_instance_uid not in ("", manifest.study_instance_uid):
            # Whoever asks has been told of that study, of a patient whom it knows.
            raise ManifestError("the manifest names another study than its metadata say")
        return manifest

    async def place_of(self, repository: str, manifest: ReceivedManifest) -> str:
        """From where a study would be retrieved: the name of a node, or the imaging document source
        of the repository.

        Raises:
            ManifestError: none of them is where it leads.
            StorageError: nobody can tell.
        """
        node = self._node_of(manifest, await self._nodes.all())
        if node is not None:
            return node.name
        return self._source_of(self.repositories[repository], manifest).destination

    async def fetch(
        self,
        repository: str,
        document: SharedDocument,
        *,
        requested_by: str,
        asker: Asker | None = None,
    ) -> tuple[str, bool, ReceivedManifest]:
        """Have the study of a manifest retrieved.

        Returns:
            The ID of the job, False where one is at it already, and the manifest.

        Raises:
            ManifestError, PublishingError, HttpClientError: as of `read` and `place_of`.
            StorageError: nothing can be written down now.
        """
        manifest = await self.read(repository, document)
        place = await self.place_of(repository, manifest)
        is_source = place == self.repositories[repository].destination
        job_id, is_new = await self._jobs.submit(
            JobRequest(
                kind=JobKind.FETCH if is_source else JobKind.RETRIEVE,
                node=place,
                keys=((_STUDY, manifest.study_instance_uid),),
                detail=_detail(manifest, document) if is_source else "",
                requested_by=requested_by,
                asker=asker,
            )
        )
        return job_id, is_new, manifest

    @staticmethod
    def _node_of(manifest: ReceivedManifest, nodes: Sequence[Node]) -> Node | None:
        """The one from which all series can be had; None: none."""
        for node in nodes:
            if node.is_enabled and all(
                (node.is_web and _same(node.address, one.wado_rs))
                or (not node.is_web and node.peer.ae_title == one.ae_title)
                for one in manifest.series
            ):
                return node
        return None

    @staticmethod
    def _source_of(repository: Repository, manifest: ReceivedManifest) -> Repository:
        """The repository, if all series can be had from its imaging document source."""
        if repository.imaging and all(one.location_uid for one in manifest.series):
            return repository
        places = dict.fromkeys(one.wado_rs or one.ae_title for one in manifest.series)
        said = ", ".join(filter(None, places)) or "the manifest names neither address nor AE title"
        raise ManifestError(
            f"no node of this archive has all of the study ({said}); isocenter node add adds one"
        )


def _detail(manifest: ReceivedManifest, document: SharedDocument) -> str:
    return f"{manifest.document_uid} {document.place}".strip()


def fetched_document(request: JobRequest) -> SharedDocument:
    """The manifest whose study a job of kind `JobKind.FETCH` fetches."""
    uid, _, place = request.detail.partition(" ")
    study = next((value for name, value in request.keys if name == _STUDY), "")
    return SharedDocument(uid=uid, reference="", study_instance_uid=study, place=place)


def _same(address: str, base: str) -> bool:
    return bool(base) and address.rstrip("/") == base.rstrip("/")
