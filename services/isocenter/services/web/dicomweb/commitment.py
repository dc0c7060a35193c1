"""Storage commitment over the web (PS3.18 13)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import trio

from isocenter.engine.limits import Limits
from isocenter.engine.uid import is_safe_uid
from isocenter.services.errors import OperationError
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Payload, Route, ok
from isocenter.services.notices import Caller
from isocenter.services.service_classes.commitment.scp import StorageCommitmentScp
from isocenter.services.service_classes.commitment.transaction import Transaction
from isocenter.services.service_classes.commitment.web_modules import (
    asked_references,
    response_of,
)
from isocenter.services.web.dicomweb.data_sets import (
    MEDIA_TYPES,
    ONE,
    data_set_response,
    read_data_set,
)
from isocenter.services.web.dicomweb.representations import Offer, choose
from isocenter.services.web.dicomweb.urls import ROOT, PublicUrls
from isocenter.services.web.principal import caller_name

PATH: Final = "/commitment-requests/{transaction}"
#: What servers had before the standard had a path.
OLD_PATH: Final = "/storage-commitments/{transaction}"
_SERVICE: Final = "Storage commitment (PS3.18 13)"
#: For so long a request waits for its outcome before it is told to come back.
WAIT_SECONDS: Final = 2.0
_RETRY_SECONDS: Final = "2"
_OUTCOME: Final = ok("The outcome: what is committed, and what is not and why.")
_PENDING: Final = ok(
    "Not all is verified yet; `Retry-After` says when to ask.",
    Payload.NOTHING,
    202,
    ("Retry-After",),
)
_NOT_MADE: Final = Answer(406, "Neither JSON nor XML is accepted.")
_UNAVAILABLE: Final = Answer(503, "The archive cannot do that now.")


class WebCommitment:
    """Takes requests, and gives their outcomes.

    Args:
        scp: verifies what was asked for, whichever way it was.
        wait_seconds: for the outcome, before the answer is 202.
    """

    def __init__(
        self,
        scp: StorageCommitmentScp,
        urls: PublicUrls,
        limits: Limits,
        *,
        caller_of: Callable[[Request], Caller],
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self._scp = scp
        self._urls = urls
        self._limits = limits
        self._caller_of = caller_of
        self._wait_seconds = wait_seconds

    async def request(self, request: Request) -> Response:
        """The handler of a request (13.4)."""
        form, _ = choose(request, ONE)
        uid = request.arguments["transaction"]
        if not is_safe_uid(uid):
            raise HttpError(400, "BAD_UID", "the path ends with a Transaction UID")
        attributes = await read_data_set(request, self._limits)
        try:
            references = asked_references(uid, attributes)
        except OperationError as error:
            raise HttpError(400, "BAD_DATA_SET", error.comment) from error
        requester = caller_name(self._caller_of(request))
        if not await self._scp.take(uid, references, requester):
            raise HttpError(
                409, "IN_USE", "there is a transaction with this UID; GET tells its outcome"
            )
        found = await self._scp.outcome(uid, wait_seconds=self._wait_seconds)
        return await self._answer(request, form, found)

    async def result(self, request: Request) -> Response:
        """The handler of a result check (13.5)."""
        form, _ = choose(request, ONE)
        found = await self._scp.outcome(request.arguments["transaction"])
        return await self._answer(request, form, found)

    async def _answer(self, request: Request, form: Offer, found: Transaction | None) -> Response:
        if found is None:
            raise HttpError(404, "NOT_FOUND", "there is no such transaction")
        here = f"{self._urls.base(request)}/commitment-requests/{found.transaction_uid}"
        headers = [("cache-control", "no-store"), ("vary", "Accept"), ("content-location", here)]
        if found.failures is None:
            return Response(status=202, headers=[*headers, ("retry-after", _RETRY_SECONDS)])
        failures = found.failures

        def written() -> Response:
            return data_set_response(form, response_of(found, failures), headers=headers)

        # Thousands of references take a while.
        return await trio.to_thread.run_sync(written)


def commitment_routes(commitment: WebCommitment) -> Sequence[Route[Handler]]:
    """The routes of storage commitment, below `ROOT`."""
    found: list[Route[Handler]] = []
    for path, suffix in ((PATH, ""), (OLD_PATH, "Alias")):
        found += [
            Route(
                method="POST", path=ROOT + path, handler=commitment.request, needs="commit",
                name=f"RequestStorageCommitment{suffix}", service=_SERVICE,
                text="Ask that instances are kept.", consumes=MEDIA_TYPES, produces=MEDIA_TYPES,
                answers=(
                    _OUTCOME, _PENDING, _NOT_MADE, _UNAVAILABLE,
                    Answer(400, "The path has no UID, or the data set names no instance."),
                    Answer(409, "The Transaction UID is in use."),
                    Answer(413, "The data set is too long."),
                    Answer(415, "The body is neither JSON nor XML."),
                ),
            ),
            Route(
                method="GET", path=ROOT + path, handler=commitment.result, needs="commit",
                name=f"CheckStorageCommitment{suffix}", service=_SERVICE,
                text="The outcome of a request, by DIMSE too.", produces=MEDIA_TYPES,
                answers=(
                    _OUTCOME, _PENDING, _NOT_MADE, _UNAVAILABLE,
                    Answer(404, "There is no such transaction."),
                ),
            ),
        ]  # fmt: skip
    return found
