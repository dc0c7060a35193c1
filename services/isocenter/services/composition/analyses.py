"""Composition of what speaks to AI services."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from isocenter.services.archive.archive import Archive
from isocenter.services.integration.ai.ai_service import AiService, Authentication
from isocenter.services.integration.ai.analysis_work import AnalysisWork
from isocenter.services.integration.ai.ports import InferenceService, OpenService
from isocenter.services.integration.ai.requests import AnalysisError
from isocenter.services.integration.ai.result_intake import ResultIntake
from isocenter.services.net.tls.contexts import TlsFiles, client_context
from isocenter.services.notices import Notices
from isocenter.services.settings.settings import Settings
from isocenter.services.system.private_files import SecretFileError, read_secret
from isocenter.storage.stores import Stores

#: Below the root that programs reach us at (`web.public_root`).
CALLBACK_PATH: Final = "/api/v1/ai/callbacks/"
#: What a header can carry.
_KEY: Final = re.compile(rb"[\x21-\x7e]{1,4096}")


def service_opener(archive: Archive, notices: Notices) -> OpenService:
    """Speaks to AI services."""

    @asynccontextmanager
    async def open_service(service: AiService) -> AsyncIterator[InferenceService]:
        # What needs a client of HTTP is imported by those who use it.
        from isocenter.services.web.inference_service import WebInferenceService

        headers = await trio.to_thread.run_sync(headers_of, service)
        tls = None
        if service.url.startswith("https:"):
            tls = client_context(TlsFiles(ca=service.ca), check_hostname=True)
        async with WebInferenceService(
            service, archive, notices, headers=headers, tls=tls
        ) as opened:
            yield opened

    return open_service


def headers_of(service: AiService) -> list[tuple[str, str]]:
    """What says to a service who we are.

    Raises:
        AnalysisError: the key cannot be used.
    """
    if service.key_file is None:
        return []
    try:
        key = read_secret(service.key_file)
    except SecretFileError as error:
        raise AnalysisError(
            f"the key of AI service {service.name} cannot be used: {error}"
        ) from None
    if _KEY.fullmatch(key) is None:
        raise AnalysisError(
            f"the key of AI service {service.name} cannot be used: {service.key_file} holds "
            "something else than one line of ASCII without blanks"
        )
    match service.authentication:
        case Authentication.API_KEY:
            return [(service.header, key.decode("ascii"))]
        case Authentication.BASIC:
            pair = base64.b64encode(service.user.encode("ascii") + b":" + key)
            return [("authorization", f"Basic {pair.decode('ascii')}")]
        case _:
            return [("authorization", f"Bearer {key.decode('ascii')}")]


def analysis_work(
    settings: Settings, archive: Archive, stores: Stores, notices: Notices
) -> AnalysisWork:
    """Has series analysed, as the settings say."""
    return AnalysisWork(
        archive,
        {service.name: service for service in settings.ai_services},
        stores.analyses,
        service_opener(archive, notices),
        ResultIntake(
            archive,
            stores.analyses,
            notices,
            may_withhold=not settings.storage.is_in_memory,
            now=stores.clock,
        ),
        notices,
        callback_url=_callbacks(settings),
        now=stores.clock,
    )


def _callbacks(settings: Settings) -> Callable[[str], str]:
    """Where a service may say that it is done; nowhere, unless it is known how we are reached."""
    root = settings.web.public_root

    def url(token: str) -> str:
        return f"{root.rstrip('/')}{CALLBACK_PATH}{token}" if root and settings.web.enabled else ""

    return url
