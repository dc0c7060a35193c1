"""Stream of events to pages and programs (server-sent events, HTML 9.2).

The durable event log is what is sent: whoever comes again with `Last-Event-ID` misses nothing that
is still there, also of another process of the server.  Nothing is kept for a stream in memory: who
reads slowly is read for slowly, and who does not read at all is cut by `web.send_timeout`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from typing import Final

import orjson
import trio

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Parameter, Route, ok
from isocenter.services.web.principal import caller_key, what_may
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.workflow.events.event import Kind, StoredEvent
from isocenter.services.workflow.events.ports import EventLog, EventSelection

EVENT_STREAM: Final = "text/event-stream"
#: Of which a caller with ``search`` hears; of the others one with ``state``.
_OF_OBJECTS: Final = (
    "study.", "series.", "instance.", "instances.", "patient.", "worklist.", "mpps.",
)  # fmt: skip
_LOOK_SECONDS: Final = 1.0
#: A comment keeps proxies from closing what is quiet, and finds out that the caller has gone.
_QUIET_SECONDS: Final = 15.0
#: How often is asked whether a stream may go on, however much it tells.
ASK_SECONDS: Final = 15.0
_AT_ONCE: Final = 200
_RETRY: Final = b"retry: 3000\n\n"
STREAM_HEADERS: Final = (
    ("content-type", EVENT_STREAM),
    ("cache-control", "no-store"),
    ("x-accel-buffering", "no"),  # proxies that would wait for more pass it on at once
)
_PARAMETERS: Final = (
    Parameter(name="kind", text="Only these kinds, as `study.complete`; once for each."),
    Parameter(name="study", text="Only of this study."),
    Parameter(name="after", text="Events behind this number; without: from now on."),
    Parameter(name="last-event-id", text="The same, as browsers say it.", place="header"),
)
_ANSWERS: Final = (
    ok(
        "The stream: `id` is the number of an event, `event` its kind, `data` its JSON object. "
        "`reset` tells that some are not there any more: look anew at what they were about."
    ),
    Answer(400, "`after` is no number, or there is no such kind."),
    Answer(429, "The caller has as many streams as it may have."),
    Answer(503, "All have as many streams as there may be, or there are no events."),
)


class EventStreams:
    """Serves streams.

    Args:
        log: None: there are no events here.
        is_allowed_still: whether what a caller has shown is still worth something.
        most, most_per_caller: streams at once.
        most_seconds: of one stream; whoever wants more asks again, and is looked at again.
    """

    def __init__(
        self,
        log: EventLog | None,
        *,
        is_allowed_still: Callable[[Request], Awaitable[bool]],
        most: int = 100,
        most_per_caller: int = 10,
        most_seconds: float = 600.0,
    ) -> None:
        self._log = log
        self._is_allowed_still = is_allowed_still
        self._most = most
        self._most_per_caller = most_per_caller
        self.most_seconds = most_seconds
        self._open: Counter[str] = Counter()
        self._is_ending = False
        self._last = 0
        self._looked_at = float("-inf")

    def routes(self) -> Iterator[Route[Handler]]:
        """Where it is."""
        yield endpoint(
            "GET", "/events", self.stream, "What happens, as it happens.",
            name="StreamEvents", service="Events", needs=None, parameters=_PARAMETERS,
            answers=_ANSWERS, produces=EVENT_STREAM,
        )  # fmt: skip

    def end(self) -> None:
        """The server stops: streams end, and browsers ask the next one."""
        self._is_ending = True

    @property
    def open(self) -> int:
        """Streams now."""
        return self._open.total()

    async def stream(self, request: Request) -> Response:
        """The handler."""
        log = self._log
        if log is None:
            raise HttpError(503, "NO_EVENTS", "there are no events here; see events.enabled")
        kinds, after = _kinds(request), _after(request)
        if request.method == "HEAD":
            return Response(headers=STREAM_HEADERS)
        last = await log.last_number()
        leave = self.enter(request)
        body = self._events(log, request, kinds, after, last)
        return Response(headers=STREAM_HEADERS, body=body, close=leave)

    async def is_allowed_still(self, request: Request) -> bool:
        """Whether a stream may go on."""
        return not self._is_ending and await self._is_allowed_still(request)

    @property
    def is_ending(self) -> bool:
        """Whether streams are to end."""
        return self._is_ending

    def enter(self, request: Request) -> Callable[[], None]:
        """Take a place for a stream; what gives it back.

        Raises:
            HttpError: the caller, or all, have as many as there may be (429, 503).
        """
        caller = caller_key(request)
        if self._open[caller] >= self._most_per_caller:
            raise HttpError(
                429, "TOO_MANY_STREAMS", f"{self._most_per_caller} streams at once are allowed",
                [("retry-after", "30")],
            )  # fmt: skip
        if self._open.total() >= self._most:
            raise HttpError(
                503, "BUSY", "there are as many streams as may be", [("retry-after", "30")]
            )
        self._open[caller] += 1

        def leave() -> None:
            self._open[caller] -= 1
            if self._open[caller] <= 0:
                del self._open[caller]

        return leave

    async def _events(
        self,
        log: EventLog,
        request: Request,
        kinds: Sequence[str],
        after: int | None,
        last: int,
    ) -> AsyncGenerator[bytes, None]:
        yield _RETRY
        if after is not None and await _is_incomplete(log, after, last):
            yield b"event: reset\ndata: {}\n\n"
            after = None
        after = last if after is None else after
        may = what_may(request.caller)
        shown = [kind for kind in kinds if _need(kind) in may]
        study = request.parameter("study") or None
        end = trio.current_time() + self.most_seconds
        quiet_since = asked_at = trio.current_time()
        is_first = True
        while not self._is_ending:
            now = trio.current_time()
            if now >= end and not is_first:
                return
            if now - asked_at >= ASK_SECONDS:
                if not await self._is_allowed_still(request):
                    return
                asked_at = now
            newest = last if is_first else await self._newest(log)
            is_first = False
            if newest > after and shown:
                selection = EventSelection(
                    after=after, kinds=shown, study_instance_uid=study, limit=_AT_ONCE
                )
                found = await log.events(selection)
                if found:
                    after = found[-1].number
                    quiet_since = trio.current_time()
                    yield b"".join(map(_as_event, found))
                    if len(found) == _AT_ONCE:
                        continue
                after = max(after, newest)
            now = trio.current_time()
            if now - quiet_since >= _QUIET_SECONDS:
                quiet_since = now
                yield b": quiet\n\n"
            await trio.sleep(max(0.0, min(_LOOK_SECONDS, end - now)))

    async def _newest(self, log: EventLog) -> int:
        """The number of the last event, asked for once for all streams."""
        now = trio.current_time()
        if now - self._looked_at >= _LOOK_SECONDS / 2:
            self._looked_at = now
            self._last = await log.last_number()
        return self._last


def _kinds(request: Request) -> list[str]:
    """Those that are asked for."""
    known = [kind.value for kind in Kind]
    said = [value for name, value in request.query if name == "kind"]
    for one in said:
        if one not in known:
            raise HttpError(400, "BAD_PARAMETER", f"kind: there are {', '.join(known)}")
    return said or known


def _need(kind: str) -> str:
    return "search" if kind.startswith(_OF_OBJECTS) else "state"


def _after(request: Request) -> int | None:
    said = request.header("last-event-id") or request.parameter("after")
    if said is None or not said.strip():
        return None
    text = said.strip()
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise HttpError(400, "BAD_PARAMETER", "after, or Last-Event-ID: the number of an event")
    return int(text)


async def _is_incomplete(log: EventLog, after: int, last: int) -> bool:
    """Whether events behind *after* are not there any more, or were those of another archive."""
    if after >= last:
        return after > last
    following = await log.events(EventSelection(after=after, limit=1))
    return not following or following[0].number != after + 1


def _as_event(event: StoredEvent) -> bytes:
    """As it is sent.  Whose study it is stays out: streams lie open on screens for hours."""
    members = event.members()
    members.pop("patient", None)
    data = orjson.dumps(members)  # one line: JSON has no line break outside of its escapes
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.number, event.kind.encode(), data)
