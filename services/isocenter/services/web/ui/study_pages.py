"""Pages of one study, one series (its images) and one instance (its attributes)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote

import orjson

from isocenter.engine.dataset import DataSetError
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.signature_check import is_signed
from isocenter.services.archive.signature_marks.ports import SignatureBook, SignatureCount
from isocenter.services.archive.signature_marks.verifier import MarkedCheck
from isocenter.services.archive.validation.ports import StudyValidation, ValidationBook
from isocenter.services.dicom.signatures.algorithms import SignatureError
from isocenter.services.dicom.signatures.verification import VerifiedSignature
from isocenter.services.dicom.uid_registry import name_of
from isocenter.services.errors import StorageError
from isocenter.services.integration.ai.desk import AiDesk
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.viewing.key_object_documents import TITLES
from isocenter.services.viewing.ports import Mark, MarkChoice, MarkKind, Marks
from isocenter.services.viewing.stored_images import read_attributes
from isocenter.services.web.dicomweb.urls import ROOT, instance_url
from isocenter.services.web.mark_documents import Choice, MarkDocuments
from isocenter.services.web.principal import caller_name, caller_of
from isocenter.services.web.ui.attribute_rows import attribute_rows
from isocenter.services.web.ui.catalogue import MOST_ROWS, Catalogue, Row
from isocenter.services.web.ui.layout import Layout

log = logging.getLogger("isocenter.web")

#: Key images on the page of a study.
_MOST_KEYS: Final = 50
#: Results on it.
_MOST_RESULTS: Final = 50
#: What has no picture: Structured Reports, key objects, presentation states, documents …
_WITHOUT_PICTURE: Final = frozenset(
    {"SR", "KO", "PR", "DOC", "RTSTRUCT", "RTPLAN", "RTRECORD", "REG", "FID", "ECG", "HD", "AU"}
)


class StudyPages:
    """Answers with what is below the list of studies.

    Args:
        viewer: where one is served; empty: none is installed.
        validation: marks of what was validated when it came; None: they are not shown.
        signatures: verifies those of objects that are signed; None: they are not shown.
        signature_marks: of what came of that; None: they are not shown.
        ai: AI services, and their results; None: they are not shown.
        marks, documents: what people noted on images, and makes objects of it; None: nobody can.
    """

    def __init__(
        self,
        archive: Archive,
        catalogue: Catalogue,
        layout: Layout,
        *,
        can_delete: bool,
        can_correct: bool = False,
        can_download: bool = False,
        viewer: str,
        can_share: bool = False,
        can_publish: bool = False,
        volview: str = "",
        marks: Marks | None = None,
        documents: MarkDocuments | None = None,
        validation: ValidationBook | None = None,
        signatures: MarkedCheck | None = None,
        signature_marks: SignatureBook | None = None,
        ai: AiDesk | None = None,
    ) -> None:
        self._ai = ai
        self._validation = validation
        self._marks = marks
        self._documents = documents
        self._signatures = signatures
        self._signature_marks = signature_marks
        self._can_share = can_share
        self._can_publish = can_publish
        self._volview = volview
        self._viewer = viewer
        self._can_delete = can_delete
        self._can_correct = can_correct
        self._can_download = can_download
        self._archive = archive
        self._catalogue = catalogue
        self._layout = layout

    async def study(self, request: Request) -> Response:
        """The handler of a study's page."""
        study_uid = request.arguments["study"]
        study = await self._catalogue.study(study_uid)
        series = await self._catalogue.series(study_uid)
        return self._layout.page(
            request,
            "study.html",
            section="studies",
            study=study,
            series=series,
            web=instance_url(ROOT, study_uid),
            without_picture=_WITHOUT_PICTURE,
            can_delete=self._can_delete,
            can_correct=self._can_correct,
            can_download=self._can_download,
            viewer=self._viewer,
            can_share=self._can_share,
            can_publish=self._can_publish,
            volview=self._volview,
            keys=[_key_image(mark) for mark in await self._keys(study_uid)],
            is_cut=len(series) == MOST_ROWS,
            validation=await self._validated(study_uid),
            signed=await self._marks_of_signatures(study_uid),
            **await self._analysed(study_uid),
        )

    async def _marks_of_signatures(self, study_uid: str) -> Sequence[SignatureCount]:
        """Of the signed objects of a study; none: there are none, or it cannot be read now."""
        if self._signature_marks is None:
            return ()
        try:
            return await self._signature_marks.of_study(study_uid)
        except StorageError:
            return ()

    async def _analysed(self, study_uid: str) -> dict[str, Any]:
        """What AI services made of a study; nothing, where that cannot be read now."""
        shown: dict[str, Any] = {"ai_services": [], "ai_results": [], "ai_withheld": []}
        if self._ai is None:
            return shown
        shown["ai_services"] = list(self._ai.services)
        with suppress(StorageError):
            shown["ai_results"] = (await self._ai.results(study_uid))[:_MOST_RESULTS]
            shown["ai_withheld"] = (await self._ai.withheld(study_uid))[:_MOST_RESULTS]
        return shown

    async def _validated(self, study_uid: str) -> StudyValidation | None:
        """How the objects of a study fared; None: nobody looked, or it cannot be read now."""
        if self._validation is None:
            return None
        try:
            found = await self._validation.of_study(study_uid)
        except StorageError:
            return None
        return found if found.objects else None

    async def make_selection(self, request: Request) -> Response:
        """The handler of the form that makes key object selections of a study's key images."""
        study = request.arguments["study"]
        assert self._documents is not None
        await self._documents.selections(caller_of(request), study, Choice())
        return Response(status=303, headers=[("location", f"/studies/{quote(study)}")])

    async def series(self, request: Request) -> Response:
        """The handler of a series' page: its images, one at a time."""
        study_uid, series_uid = request.arguments["study"], request.arguments["series"]
        study = await self._catalogue.study(study_uid)
        series = await self._catalogue.one_series(study_uid, series_uid)
        instances = await self._catalogue.instances(study_uid, series_uid)
        at = _place(request, [row["SOPInstanceUID"] for row in instances])
        keys = await self._keys(study_uid, series_uid)
        author = caller_name(caller_of(request))
        return self._layout.page(
            request,
            "series.html",
            section="studies",
            study=study,
            series=series,
            instances=instances,
            at=at,
            web=instance_url(ROOT, study_uid, series_uid),
            can_download=self._can_download,
            images=orjson.dumps([_image(row) for row in instances]).decode(),
            keys=None if self._marks is None else _as_json(keys, author),
            has_pictures=series["Modality"] not in _WITHOUT_PICTURE,
            is_cut=len(instances) == MOST_ROWS,
        )

    async def _keys(self, study: str, series: str = "") -> Sequence[Mark]:
        """The key images of a study or a series."""
        if self._marks is None:
            return ()
        choice = MarkChoice(
            kind=MarkKind.KEY_IMAGE, study_instance_uid=study, series_instance_uid=series
        )
        found, _ = await self._marks.chosen(choice, limit=MOST_ROWS if series else _MOST_KEYS)
        return found

    async def instance(self, request: Request) -> Response:
        """The handler of an instance's page: its attributes."""
        study_uid, series_uid = request.arguments["study"], request.arguments["series"]
        uid = request.arguments["instance"]
        stored = (await self._archive.index.get([uid])).get(uid)
        if stored is None or (stored.study_instance_uid, stored.series_instance_uid) != (
            study_uid,
            series_uid,
        ):
            raise HttpError(404, "NOT_FOUND", "the archive has no such instance")
        study = await self._catalogue.study(study_uid)
        series = await self._catalogue.one_series(study_uid, series_uid)
        return self._layout.page(
            request,
            "instance.html",
            section="studies",
            study=study,
            series=series,
            stored=stored,
            sop_class=name_of(stored.sop_class_uid),
            transfer_syntax=name_of(stored.transfer_syntax_uid),
            rows=await attribute_rows(lambda: self._archive.open(stored), stored),
            signatures=await self._signed(request, stored),
            web=instance_url(ROOT, study_uid, series_uid, uid),
            deidentifies=bool(
                self._archive.deidentification and self._archive.deidentification.projects
            ),
        )

    async def _signed(
        self, request: Request, stored: StoredInstance
    ) -> list[VerifiedSignature] | str:
        """Its signatures, verified; text: why they cannot be."""
        if self._signatures is None:
            return []
        try:
            if not is_signed((await read_attributes(self._archive, stored)).model):
                return []
            return await self._signatures.verify(stored, caller_of(request))
        except SignatureError as error:
            log.error("signatures cannot be verified: %s", error)
            return "a file of certificates cannot be read; the log says which"
        except (DataSetError, KeyError, StorageError):
            return "the object cannot be read"


def _place(request: Request, uids: Sequence[str]) -> int:
    """The image to begin with, from 1 on: the one in the middle, if none is named."""
    instance = request.parameter("instance")
    if instance in uids:
        return uids.index(instance) + 1
    said = request.parameter("image") or ""
    at = int(said) if said.isdecimal() and len(said) < 8 else len(uids) // 2 + 1
    return max(1, min(at, len(uids)))


def _key_image(mark: Mark) -> dict[str, Any]:
    """A key image as the page of its study shows it."""
    return {
        "series": mark.series_instance_uid,
        "instance": mark.sop_instance_uid,
        "frame": mark.frame_number,
        "author": mark.author,
        "title": TITLES[mark.form].meaning,
        "reason": orjson.loads(mark.content)["reason"],
    }


def _as_json(keys: Sequence[Mark], author: str) -> str:
    """Key images as the script of the quick look reads them."""
    return orjson.dumps(
        [
            {
                "id": mark.mark_id,
                "uid": mark.sop_instance_uid,
                "frame": mark.frame_number,
                "own": mark.author == author,
            }
            for mark in keys
        ]
    ).decode()


def _image(row: Row) -> tuple[str, int]:
    return row["SOPInstanceUID"], max(row.number("NumberOfFrames"), 1)
