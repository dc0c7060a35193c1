"""Client of the FHIR service of a repository: JSON, bounded, without texts of others."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Final

import orjson

from isocenter.services.integration.sharing.fhir_values import Json
from isocenter.services.integration.sharing.ports import PublishingError
from isocenter.services.integration.sharing.repository import Repository
from isocenter.services.net.http.client import Content, HttpClient
from isocenter.services.net.http.client_errors import BrokenAnswerError, HttpStatusError

_JSON: Final = "application/fhir+json"
_ACCEPT: Final = (("accept", _JSON),)
_MOST_ANSWER: Final = 16 << 20
NO_SUCH: Final = frozenset({404, 410})
#: Statuses by which a server says that it may be done later.
LATER: Final = frozenset({408, 429, 500, 502, 503, 504})


class FhirClient:
    """Asks for resources below the base of a service."""

    def __init__(self, client: HttpClient, repository: Repository) -> None:
        self._client = client
        self._repository = repository

    async def ask(self, method: str, path: str, body: Json | None = None) -> dict[str, Any]:
        """The resource that is answered; empty: none is.

        Raises:
            HttpStatusError: the server refuses, or cannot do it now; without what it says of it,
                which may name a patient.
            PublishingError: it refuses for good.
        """
        content = None
        if body is not None:
            data = orjson.dumps(body)
            content = Content(media_type=_JSON, pieces=lambda: _once(data), length=len(data))
        try:
            async with self._client.request(
                method, self._client.base + path, headers=_ACCEPT, content=content
            ) as response:
                raw = await response.body(_MOST_ANSWER)
        except HttpStatusError as error:
            if error.status in LATER or error.status in NO_SUCH:
                raise HttpStatusError(error.status, "") from None
            raise PublishingError(
                f"repository {self._repository}: {HttpStatusError(error.status, '')}"
            ) from None
        if not raw.strip():
            return {}
        try:
            found = orjson.loads(raw)
        except orjson.JSONDecodeError:
            raise BrokenAnswerError("the answer is no JSON") from None
        if not isinstance(found, dict):
            raise BrokenAnswerError("the answer is no resource")
        return found


async def _once(data: bytes) -> AsyncGenerator[bytes, None]:
    yield data


def listed(value: object) -> list[Any]:
    """A list of an answer; empty: it is none."""
    return value if isinstance(value, list) else []
