"""Routes of unified procedure steps (PS3.18 11), below `ROOT`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.routing import Answer, Parameter, Payload, Route, ok
from isocenter.services.web.dicomweb.data_sets import MEDIA_TYPES
from isocenter.services.web.dicomweb.search.parameters import SEARCH_PARAMETERS
from isocenter.services.web.dicomweb.ups.subscriptions import (
    SOCKETS,
    SUBSCRIBER,
    SUSPEND,
    WebSubscriptions,
)
from isocenter.services.web.dicomweb.ups.workitems import WORKITEM, WORKITEMS, WebWorkitems
from isocenter.services.web.dicomweb.urls import ROOT

_SERVICE: Final = "Unified procedure steps: UPS-RS (PS3.18 11)"
_BAD: Final = Answer(400, "The path has no UID, or the data set is none for it.")
_UNKNOWN: Final = Answer(404, "There is no such workitem.")
_LATER: Final = Answer(503, "The archive cannot do that now.")
_TYPE: Final = Answer(415, "The body is neither JSON nor XML.")
_NOT_ACCEPTED: Final = Answer(406, "Neither JSON nor XML is accepted.")
_ANOTHERS: Final = Answer(403, "The AE title is another subscriber's, or has to subscribe again.")
_TRANSACTION: Final = Parameter(
    name="transaction-uid",
    text="The lock, where the body does not say it; the UID alone will do.",
)


def workitem_routes(workitems: WebWorkitems) -> Iterator[Route[Handler]]:
    """What is done with workitems."""
    yield Route(
        method="POST", path=ROOT + WORKITEMS, handler=workitems.create, needs="write",
        name="CreateUPS", service=_SERVICE, consumes=MEDIA_TYPES, text="Create a workitem.",
        parameters=(
            Parameter(
                name="workitem",
                text="Its SOP Instance UID, also alone; without: of the body, else a new one.",
            ),
        ),
        answers=(
            ok("It is created, at `Location`.", Payload.NOTHING, 201, ("Location",)),
            Answer(400, "The data set is none of a new workitem."),
            Answer(409, "There is a workitem with this UID."),
            Answer(413, "The workitem, or the data set, is too long."),
            _TYPE, _LATER,
        ),
    )  # fmt: skip
    yield Route(
        method="GET", path=ROOT + WORKITEMS, handler=workitems.search, needs="search",
        name="SearchForUPS", service=_SERVICE, produces=MEDIA_TYPES,
        text="Search for workitems.", parameters=SEARCH_PARAMETERS,
        answers=(
            ok("The matches, the earliest first. A `Warning` tells what was cut."),
            ok("There is no match (`web.empty_search`).", Payload.NOTHING, 204),
            Answer(400, "The value of a known attribute or parameter is broken."),
            _NOT_ACCEPTED, _LATER,
        ),
    )  # fmt: skip
    yield Route(
        method="GET", path=ROOT + WORKITEM, handler=workitems.retrieve, needs="read",
        name="RetrieveUPS", service=_SERVICE, produces=MEDIA_TYPES,
        text="A workitem with all its attributes, but for its Transaction UID.",
        answers=(ok("The workitem."), _UNKNOWN, _NOT_ACCEPTED, _LATER),
    )  # fmt: skip
    yield Route(
        method="POST", path=ROOT + WORKITEM, handler=workitems.update, needs="write",
        name="UpdateUPS", service=_SERVICE, consumes=MEDIA_TYPES,
        text="Change attributes of a workitem.", parameters=(_TRANSACTION,),
        answers=(
            ok("It is changed.", Payload.NOTHING), _BAD, _UNKNOWN,
            Answer(409, "It is final, or the Transaction UID is not that of its performer."),
            Answer(413, "The workitem, or the data set, is too long."), _TYPE, _LATER,
        ),
    )  # fmt: skip
    yield Route(
        method="PUT", path=ROOT + WORKITEM + "/state", handler=workitems.change_state,
        needs="write", name="ChangeUPSState", service=_SERVICE, consumes=MEDIA_TYPES,
        text="Begin, complete or cancel a workitem as its performer.", parameters=(_TRANSACTION,),
        answers=(
            ok("It has the state.", Payload.NOTHING), _BAD, _UNKNOWN,
            Answer(409, "The state cannot follow, lacks something, or the UID is not right."),
            Answer(413, "The data set is too long."), _TYPE, _LATER,
        ),
    )  # fmt: skip
    yield Route(
        method="POST", path=ROOT + WORKITEM + "/cancelrequest", handler=workitems.request_cancel,
        needs="write", name="RequestUPSCancellation", service=_SERVICE, consumes=MEDIA_TYPES,
        text="Ask for a workitem to be cancelled.",
        answers=(
            ok("It is cancelled, or its performer is asked.", Payload.NOTHING, 202), _BAD, _UNKNOWN,
            Answer(409, "It is completed, or nobody has subscribed who could cancel it."),
            Answer(413, "The data set is too long."), _TYPE, _LATER,
        ),
    )  # fmt: skip


def subscription_routes(subscriptions: WebSubscriptions) -> Iterator[Route[Handler]]:
    """Who is told of workitems."""
    yield Route(
        method="POST", path=ROOT + SUBSCRIBER, handler=subscriptions.subscribe, needs="read",
        name="SubscribeToUPS", service=_SERVICE,
        text="Be told of a workitem, or of all of them.",
        parameters=(
            Parameter(
                name="deletionlock", text="It is not to be removed.", values=("false", "true")
            ),
            Parameter(
                name="attribute",
                text="A keyword or tag that workitems match, of the filtered subscription.",
                is_any=True,
            ),
        ),
        answers=(
            ok(
                "Events leave by the WebSocket at `Content-Location`.", Payload.NOTHING, 201,
                ("Content-Location",),
            ),
            _BAD, _ANOTHERS, _UNKNOWN,
            Answer(503, "There are too many subscribers, or as for all."),
        ),
    )  # fmt: skip
    yield Route(
        method="DELETE", path=ROOT + SUBSCRIBER, handler=subscriptions.unsubscribe, needs="read",
        name="UnsubscribeFromUPS", service=_SERVICE,
        text="Be told of a workitem no more, or of nothing any more.",
        answers=(ok("So it is.", Payload.NOTHING), _BAD, _ANOTHERS, _UNKNOWN, _LATER),
    )  # fmt: skip
    yield Route(
        method="POST", path=ROOT + SUSPEND, handler=subscriptions.suspend, needs="read",
        name="SuspendGlobalUPSSubscription", service=_SERVICE,
        text="Be told of no workitems that are yet to come.",
        answers=(ok("So it is.", Payload.NOTHING), _BAD, _ANOTHERS, _LATER),
    )  # fmt: skip
    for number, path in enumerate(SOCKETS):
        yield Route(
            method="GET", path=ROOT + path, handler=subscriptions.open, needs="read",
            name="OpenEventChannel" + ("Alias" if number else ""), service=_SERVICE,
            text="The WebSocket by which a subscriber is sent events (PS3.18 8.10).",
            answers=(
                ok("The WebSocket.", Payload.NOTHING, 101),
                Answer(400, "The path has no AE title."),
                _ANOTHERS,
                Answer(426, "The request opens no WebSocket."),
                _LATER,
            ),
        )  # fmt: skip
