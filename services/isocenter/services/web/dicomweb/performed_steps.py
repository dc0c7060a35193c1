"""Modality performed procedure steps over the web (PS3.18 15)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from isocenter.engine.dimse.status import Status
from isocenter.engine.limits import Limits
from isocenter.engine.uid import is_safe_uid
from isocenter.services.errors import OperationError
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Parameter, Payload, Route, ok
from isocenter.services.notices import Caller, Notices
from isocenter.services.service_classes.mpps.manager import PerformedStepManager, change_of
from isocenter.services.service_classes.mpps.performed_step import PerformedStep
from isocenter.services.web.dicomweb.data_sets import (
    MEDIA_TYPES,
    ONE,
    data_set_response,
    read_data_set,
)
from isocenter.services.web.dicomweb.representations import choose
from isocenter.services.web.dicomweb.urls import ROOT, PublicUrls
from isocenter.services.web.principal import caller_name

PATH: Final = "/modality-performed-procedure-steps/{step}"
_SERVICE: Final = "Modality performed procedure step (PS3.18 15)"
_UPDATE: Final = "update"
#: What an N-CREATE would be answered → status and code; everything else is a fault of the data set.
_CREATING: Final = {
    Status.DUPLICATE_SOP_INSTANCE: (409, "IN_USE"),
    Status.RESOURCE_LIMITATION: (413, "TOO_LARGE"),
}
#: The same of an N-SET: 409 is what does not go with the step as it is (15.5.3).
_UPDATING: Final = {
    Status.NO_SUCH_SOP_INSTANCE: (404, "NOT_FOUND"),
    Status.PROCESSING_FAILURE: (409, "FINAL"),
    Status.NO_SUCH_ATTRIBUTE: (409, "NOT_ALLOWED_ANY_MORE"),
    Status.MISSING_ATTRIBUTE: (409, "INCOMPLETE"),
    Status.MISSING_ATTRIBUTE_VALUE: (409, "INCOMPLETE"),
    Status.RESOURCE_LIMITATION: (413, "TOO_LARGE"),
}
_COMMENTS: Final = {
    Status.DUPLICATE_SOP_INSTANCE: "there is a step with this UID; ?update changes it",
    Status.NO_SUCH_SOP_INSTANCE: "there is no such step; without ?update it is created",
}


class WebPerformedSteps:
    """Creates, changes and gives steps.

    Args:
        manager: knows the rules, which are those of N-CREATE and N-SET.
        ae_title: by which those who are notified know us.
    """

    def __init__(
        self,
        manager: PerformedStepManager,
        urls: PublicUrls,
        notices: Notices,
        limits: Limits,
        *,
        ae_title: str,
        caller_of: Callable[[Request], Caller],
    ) -> None:
        self._manager = manager
        self._urls = urls
        self._notices = notices
        self._limits = limits
        self._ae_title = ae_title
        self._caller_of = caller_of

    async def post(self, request: Request) -> Response:
        """The handler of creation (15.4) and, with ``update`` in the query, of change (15.5)."""
        uid = request.arguments["step"]
        if not is_safe_uid(uid):
            raise HttpError(400, "BAD_UID", "the path ends with a SOP Instance UID")
        is_update = any(name == _UPDATE for name, _ in request.query)
        attributes = await read_data_set(request, self._limits)
        caller = self._caller_of(request)
        try:
            if is_update:
                step = await self._manager.change(
                    uid, attributes, as_ae_title=self._ae_title, limits=self._limits
                )
            else:
                step = await self._manager.create(
                    uid,
                    attributes,
                    source=caller_name(caller),
                    as_ae_title=self._ae_title,
                    limits=self._limits,
                )
        except OperationError as error:
            raise _refusal(error, _UPDATING if is_update else _CREATING) from error
        self._notices.publish(change_of(step, caller, is_new=not is_update))
        here = self._here(request, step)
        headers = [("cache-control", "no-store"), ("content-location", here)]
        if is_update:
            return Response(headers=headers)
        return Response(status=201, headers=[*headers, ("location", here)])

    async def get(self, request: Request) -> Response:
        """The handler of retrieval (15.6)."""
        form, _ = choose(request, ONE)
        step = await self._manager.get(request.arguments["step"])
        if step is None:
            raise HttpError(404, "NOT_FOUND", "there is no such step")
        headers = [
            ("cache-control", "no-cache"),
            ("vary", "Accept"),
            ("content-location", self._here(request, step)),
        ]
        return data_set_response(form, step.attributes, headers=headers)

    def _here(self, request: Request, step: PerformedStep) -> str:
        path = PATH.replace("{step}", step.sop_instance_uid)
        return f"{self._urls.base(request)}{path}"


def _refusal(error: OperationError, statuses: dict[Status, tuple[int, str]]) -> HttpError:
    status, code = 400, "BAD_DATA_SET"
    comment = error.comment
    for known, answer in statuses.items():
        if error.status == known:
            status, code = answer
            comment = comment or _COMMENTS.get(known, "")
    return HttpError(status, code, comment or "the data set is none of a performed procedure step")


def performed_step_routes(steps: WebPerformedSteps) -> Sequence[Route[Handler]]:
    """The routes of performed procedure steps, below `ROOT`."""
    return [
        Route(
            method="POST", path=ROOT + PATH, handler=steps.post, needs="write",
            name="CreateOrUpdatePerformedStep", service=_SERVICE, consumes=MEDIA_TYPES,
            text="Create a step, or change it.",
            parameters=(
                Parameter(
                    name=_UPDATE, text="There: change the step; not there: create it.", is_flag=True
                ),
            ),
            answers=(
                ok("The step is changed.", Payload.NOTHING),
                ok("The step is created, at `Location`.", Payload.NOTHING, 201, ("Location",)),
                Answer(400, "The path has no UID, or the data set is none of a step."),
                Answer(404, "There is no such step to change."),
                Answer(
                    409,
                    "The UID is in use; or the step is final, or the change does not go with it.",
                ),
                Answer(413, "The step, or the data set, is too long."),
                Answer(415, "The body is neither JSON nor XML."),
                Answer(503, "The archive cannot do that now."),
            ),
        ),
        Route(
            method="GET", path=ROOT + PATH, handler=steps.get, needs="read",
            name="RetrievePerformedStep", service=_SERVICE, produces=MEDIA_TYPES,
            text="A step with all its attributes.",
            answers=(
                ok("The step."),
                Answer(404, "There is no such step."),
                Answer(406, "Neither JSON nor XML is accepted."),
                Answer(503, "The archive cannot do that now."),
            ),
        ),
    ]  # fmt: skip
