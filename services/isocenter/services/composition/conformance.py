"""Conformance statement of a server, from the services and routes that it runs on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from isocenter.services.association.service_registry import ServiceRegistry
from isocenter.services.composition.plugins import Plugin
from isocenter.services.composition.tls_contexts import TlsContexts
from isocenter.services.conformance.statement import statement
from isocenter.services.net.http.routing import Route
from isocenter.services.net.tls.contexts import PROFILES
from isocenter.services.net.tls.inspection import describe_profile
from isocenter.services.settings.settings import Settings
from isocenter.services.web.description.document import Block


def statement_title(version: str) -> str:
    """What the document is called."""
    return f"DICOM Conformance Statement: Isocenter {version}"


def statement_blocks(
    settings: Settings,
    registry: ServiceRegistry,
    tls: TlsContexts | None,
    plugins: Sequence[Plugin],
    routes: Sequence[Route[Any]],
) -> list[Block]:
    """The document (PS3.2).

    Args:
        routes: of the web services; none: there are none.
    """
    profile = ""
    if tls is not None and settings.tls.enabled:
        profile = describe_profile(tls.server, PROFILES[settings.tls.profile])
    rows = [row for plugin in plugins for row in plugin.rows()]
    return [*statement(settings, registry, profile, rows, routes)]
