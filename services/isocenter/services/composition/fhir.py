"""Composition of the FHIR read service."""

from __future__ import annotations

from collections.abc import Sequence

from isocenter.services.composition.archive import ArchiveParts
from isocenter.services.composition.sharing import authorities_of, retrieval_of
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.routing import Route
from isocenter.services.settings.settings import Settings
from isocenter.services.web.dicomweb.deletion import Trashed
from isocenter.services.web.dicomweb.urls import PublicUrls
from isocenter.services.web.fhir.service import FhirOptions, fhir_routes


def fhir_of(settings: Settings, parts: ArchiveParts, *, version: str) -> Sequence[Route[Handler]]:
    """The routes of FHIR, as the settings say."""
    if not settings.sharing.fhir:
        return ()
    options = FhirOptions(
        retrieval=retrieval_of(settings),
        authorities=authorities_of(settings),
        zone=settings.server.zone,
        version=version,
    )
    urls = PublicUrls(public_root=settings.web.public_root)
    trashed = Trashed(parts.stores.trash)
    return fhir_routes(parts.archive.index, urls, options, trashed)
