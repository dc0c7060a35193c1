"""Worker processes of a server as one: associations and log lines of all."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec
import trio

from isocenter.services.association.server import Server
from isocenter.services.notices import Caller
from isocenter.services.system.recent_log import MOST_LINES, RecentLog
from isocenter.services.system.worker_calls import WorkerCalls
from isocenter.services.web.processes import AssociationFigures, Associations, Lines


class _Look(msgspec.Struct, tag=True, frozen=True):
    """A question: which associations are there?"""


class _Read(msgspec.Struct, tag=True, frozen=True):
    """A question: which lines has the log?"""


class _End(msgspec.Struct, tag=True, frozen=True):
    """An order: end this association."""

    name: str
    by: Caller


_QUESTION: Final = msgspec.json.Decoder(_Look | _Read | _End)
_ASSOCIATIONS: Final = msgspec.json.Decoder(Associations)
_LINES: Final = msgspec.json.Decoder(Lines)
_IS_ENDED: Final = msgspec.json.Decoder(bool)


class RunningProcesses:
    """The `ServerProcesses` of a server, seen from one of them.

    Args:
        number: how many there are to be.
        folder: where they meet; None: there is one only.
        name: of this one, there; empty: its process ID.
    """

    def __init__(
        self,
        server: Server,
        recent: RecentLog,
        *,
        number: int,
        folder: Path | None,
        name: str = "",
    ) -> None:
        self.number = number
        self._server = server
        self._recent = recent
        self._others = None if folder is None or number == 1 else WorkerCalls(folder, name)

    @property
    def is_stopping(self) -> bool:
        """See `ServerProcesses.is_stopping`."""
        return self._server.is_stopping

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer the others until cancelled; at once, where there are none."""
        if self._others is None:
            task_status.started()
        else:
            await self._others.serve(self._answer, task_status=task_status)

    async def associations(self) -> Associations:
        """See `ServerProcesses.associations`."""
        answers = [self._associations(), *map(_ASSOCIATIONS.decode, await self._ask(_Look()))]
        lasting = [one for answer in answers for one in answer.lasting]
        return Associations(
            lasting=sorted(lasting, key=lambda one: -one.seconds),
            figures=_sum([answer.figures for answer in answers]),
            answering=len(answers),
        )

    async def log(self) -> Lines:
        """See `ServerProcesses.log`."""
        answers = [Lines(lines=self._recent.lines())]
        answers += map(_LINES.decode, await self._ask(_Read()))
        merged = heapq.merge(*(one.lines for one in answers), key=lambda line: -line.time)
        return Lines(lines=list(islice(merged, MOST_LINES)), answering=len(answers))

    async def end_association(self, name: str, by: Caller) -> bool:
        """See `ServerProcesses.end_association`."""
        if await self._server.end_by_hand(name, by):
            return True
        return any(map(_IS_ENDED.decode, await self._ask(_End(name=name, by=by))))

    async def _ask(self, question: _Look | _Read | _End) -> Sequence[bytes]:
        if self._others is None:
            return ()
        return await self._others.ask(msgspec.json.encode(question))

    async def _answer(self, question: bytes) -> bytes:
        asked = _QUESTION.decode(question)
        if isinstance(asked, _End):
            return msgspec.json.encode(await self._server.end_by_hand(asked.name, asked.by))
        if isinstance(asked, _Read):
            return msgspec.json.encode(Lines(lines=self._recent.lines()))
        return msgspec.json.encode(self._associations())

    def _associations(self) -> Associations:
        server = self._server
        received, sent = server.traffic()
        statistics = server.statistics
        return Associations(
            lasting=server.live(),
            figures=AssociationFigures(
                active=server.associations,
                most=server.limits.associations,
                total=statistics.associations,
                rejected=statistics.rejected,
                aborted=statistics.aborted,
                operations=server.operations(),
                bytes_received=received,
                bytes_sent=sent,
            ),
        )


def _sum(figures: Sequence[AssociationFigures]) -> AssociationFigures:
    return AssociationFigures(
        **{
            one.name: sum(getattr(each, one.name) for each in figures)
            for one in fields(AssociationFigures)
        }
    )
