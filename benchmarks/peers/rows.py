"""The lines of the table, and how one cell of it is measured."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

from peers import asking, objects, work
from peers.load import PATIENCE_SECONDS, Cost, Done, run_client, run_workers
from peers.objects import CT_SIDE, FIRST_NUMBER, SERIES_LENGTH, SMALL_SIDE, study_uid
from peers.programs import Program
from peers.servers import Kind
from peers.wire import CALLED, CALLING, Address, Failed
from peers.work import Job

#: Side of the images that only fill an archive for C-FIND.
_TINY_SIDE: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is done: for figures, or only to see that everything works."""

    seconds: float = 2.0
    fill_seconds: float = 60.0
    small_objects: int = 8_000
    ct_objects: int = 800
    client_objects: int = 100
    large_mebibytes: int = 100
    huge_mebibytes: int = 1_000
    trial_echoes: int = 40
    studies: int = 5_000
    series_length: int = SERIES_LENGTH


QUICK: Final = Scale(
    seconds=0.2,
    fill_seconds=0.5,
    small_objects=200,
    ct_objects=24,
    client_objects=10,
    large_mebibytes=16,
    huge_mebibytes=64,
    trial_echoes=8,
    studies=200,
    series_length=20,
)


class Numbers:
    """Numbers of objects, each only once in a run."""

    def __init__(self) -> None:
        self._next = FIRST_NUMBER

    def take(self, number: int) -> int:
        first = self._next
        self._next += number
        return first


@dataclass(slots=True)
class Bench:
    """What all cells of a run share."""

    scale: Scale
    folder: Path
    destination: socket.socket
    numbers: Numbers = field(default_factory=Numbers)
    _corpus: Path | None = None

    @property
    def corpus(self) -> Path:
        """CT files for clients that read files."""
        if self._corpus is None:
            number = self.scale.client_objects
            self._corpus = objects.write_files(
                self.folder / "corpus", work.template(CT_SIDE), self.numbers.take(number), number
            )
        return self._corpus


@dataclass(slots=True)
class Running:
    """A server that was started, and what it was filled with."""

    kind: Kind
    program: Program
    address: Address
    bench: Bench
    studies: int = 0
    series: str = ""

    def job(self, limit: int, workers: int = 1, seconds: float | None = None) -> Job:
        return Job(
            address=self.address,
            seconds=self.bench.scale.seconds if seconds is None else seconds,
            limit=limit,
            workers=workers,
            first=self.bench.numbers.take(limit + workers),
        )

    def run(self, call: Callable[[Job, int], Done], job: Job) -> Measured:
        return run_workers(partial(call, job), job.workers, self.program)

    def fill_studies(self) -> None:
        """As many studies of one object as fit into the time, at most those of the scale."""
        if not self.studies:
            scale = self.bench.scale
            work.template(_TINY_SIDE)
            number = min(scale.studies, self.kind.most_studies or scale.studies)
            job = self.job(number, self.kind.filling_associations, scale.fill_seconds)
            done, _ = self.run(partial(work.store, side=_TINY_SIDE, study_length=1), job)
            self.studies = int(sum(each.operations for each in done))

    def fill_series(self) -> None:
        """One study of CT images."""
        if not self.series:
            self.series = self.store_series()

    def store_series(self) -> str:
        """Store a study of CT images; its Study Instance UID."""
        length = self.bench.scale.series_length
        work.template(CT_SIDE)
        job = self.job(length, 1, PATIENCE_SECONDS)
        done, _ = self.run(partial(work.store, side=CT_SIDE, study_length=length), job)
        if sum(each.operations for each in done) < length:
            raise Failed(f"could not be filled: {done[0].note}")
        return study_uid(job.first)


Measured = tuple[list[Done], Cost]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a line.  ``per``: of what one operation is, for the CPU time."""

    title: str
    unit: str
    per: str = "operation"

    @property
    def is_better_when_less(self) -> bool:
        return self.unit == "ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Lines of the table that are measured together."""

    name: str
    figures: tuple[Figure, ...]
    measure: Callable[[Running], Measured]
    is_query: bool = False
    tls: bool = False
    is_default: bool = True


@dataclass(frozen=True, slots=True)
class Sample:
    """One cell in one round.  ``cpu``: microseconds of the server per operation."""

    values: tuple[float, ...]
    cpu: float
    idle_bytes: int
    peak_bytes: int
    note: str = ""


def measure(row: Row, running: Running) -> Sample:
    """Raises:
    Failed: the server did something else than what is measured.
    """
    os.sync()  # nobody pays for what was written before
    done, cost = row.measure(running)
    did = [each for each in done if each.operations]
    operations = sum(each.operations for each in did)
    if not operations:
        raise Failed("nothing was done in time")
    spent = max(each.ended for each in did) - min(each.began for each in did)
    values = did[0].values or (operations / spent,)
    notes = dict.fromkeys(each.note for each in did if each.note)
    if len(values) > 1 and running.studies < running.bench.scale.studies:
        notes[f"{running.studies} studies"] = None
    return Sample(
        values,
        cost.cpu_seconds / operations * 1e6,
        cost.idle_bytes,
        cost.peak_bytes,
        ", ".join(notes),
    )


def _echo(running: Running) -> Measured:
    return running.run(work.echo, running.job(1_000_000))


def _associate(running: Running) -> Measured:
    return running.run(work.associate, running.job(1_000_000))


def _store(running: Running, side: int, associations: int) -> Measured:
    work.template(side)
    scale = running.bench.scale
    limit = scale.small_objects if side == SMALL_SIDE else scale.ct_objects
    return running.run(partial(work.store, side=side), running.job(limit, associations))


def _large(running: Running, mebibytes: int) -> Measured:
    work.frame()
    return running.run(partial(work.large, mebibytes=mebibytes), running.job(1))


def _client(running: Running, program: str, *options: object) -> Sequence[object]:
    return [program, "-aet", CALLING, "-aec", CALLED, "127.0.0.1", running.address.port, *options]


def _echoscu(running: Running) -> Measured:
    def echoes(number: int) -> Measured:
        return run_client(_client(running, "echoscu", "--repeat", number), number, running.program)

    scale = running.bench.scale
    trial = echoes(scale.trial_echoes)
    spent = trial[0][0].ended - trial[0][0].began
    if spent >= scale.seconds / 2:
        return trial
    return echoes(int(scale.trial_echoes * scale.seconds / spent))


def _storescu(running: Running) -> Measured:
    corpus = running.bench.corpus
    return run_client(
        _client(running, "storescu", "+sd", corpus),
        running.bench.scale.client_objects,
        running.program,
    )


def _find(running: Running) -> Measured:
    running.fill_studies()
    return running.run(partial(asking.find, studies=running.studies), running.job(1))


def _get(running: Running) -> Measured:
    running.fill_series()
    return running.run(_getting(running, running.series), running.job(1))


def _move(running: Running) -> Measured:
    running.fill_series()
    return running.run(_moving(running, running.series), running.job(1))


def _store_get(running: Running) -> Measured:
    """A study that was stored a moment ago, once."""
    return running.run(_getting(running, running.store_series()), running.job(1, seconds=0.0))


def _store_move(running: Running) -> Measured:
    return running.run(_moving(running, running.store_series()), running.job(1, seconds=0.0))


def _getting(running: Running, series: str) -> Callable[[Job, int], Done]:
    length = running.bench.scale.series_length
    return partial(asking.get, study_uid=series, instances=length)


def _moving(running: Running, series: str) -> Callable[[Job, int], Done]:
    length = running.bench.scale.series_length
    listener = running.bench.destination
    return partial(asking.move, study_uid=series, instances=length, listener=listener)


def rows_of(scale: Scale) -> tuple[Row, ...]:
    """All rows, first in the clear, then over mutual TLS."""
    plain = _plain_rows(scale)
    return (*plain, *(_over_tls(row) for row in plain if row.name not in _WITHOUT_TLS))


def _plain_rows(scale: Scale) -> tuple[Row, ...]:
    studies = f"C-FIND of {scale.studies:,} studies"
    return (
        Row(name="echo", figures=(Figure("C-ECHO, 1 association", "/s"),), measure=_echo),
        Row(
            name="echoscu", figures=(Figure("C-ECHO, echoscu as shipped", "/s"),), measure=_echoscu
        ),
        Row(
            name="storescu",
            figures=(Figure("CT store, storescu as shipped", "/s"),),
            measure=_storescu,
        ),
        Row(
            name="associate",
            figures=(Figure("associate, C-ECHO, release", "/s"),),
            measure=_associate,
        ),
        _store_row("small-1", "12 KB store", SMALL_SIDE, 1),
        _store_row("small-8", "12 KB store", SMALL_SIDE, 8),
        _store_row("ct-1", "CT store", CT_SIDE, 1),
        _store_row("ct-8", "CT store", CT_SIDE, 8),
        _large_row("large", scale.large_mebibytes),
        _large_row("huge", scale.huge_mebibytes, is_default=False),
        Row(
            name="find",
            figures=(
                Figure(f"{studies}, first", "ms", "response"),
                Figure(f"{studies}, last", "ms", "response"),
            ),
            measure=_find,
            is_query=True,
        ),
        Row(
            name="get",
            figures=(Figure(f"C-GET of {scale.series_length} CT", "/s", "object"),),
            measure=_get,
            is_query=True,
        ),
        Row(
            name="move",
            figures=(Figure(f"C-MOVE of {scale.series_length} CT", "/s", "object"),),
            measure=_move,
            is_query=True,
        ),
        Row(
            name="store-get",
            figures=(Figure(f"C-GET of {scale.series_length} CT just stored", "/s", "object"),),
            measure=_store_get,
            is_query=True,
        ),
        Row(
            name="store-move",
            figures=(Figure(f"C-MOVE of {scale.series_length} CT just stored", "/s", "object"),),
            measure=_store_move,
            is_query=True,
        ),
    )


def _store_row(name: str, title: str, side: int, associations: int) -> Row:
    noun = "association" if associations == 1 else "associations"
    return Row(
        name=name,
        figures=(Figure(f"{title}, {associations} {noun}", "/s", "object"),),
        measure=partial(_store, side=side, associations=associations),
    )


def _large_row(name: str, mebibytes: int, *, is_default: bool = True) -> Row:
    return Row(
        name=name,
        figures=(Figure(f"object of {mebibytes:,} MiB", "MB/s", "MB"),),
        measure=partial(_large, mebibytes=mebibytes),
        is_default=is_default,
    )


#: Of the others there is one over mutual TLS: DCMTK's clients and a C-MOVE's second
#: association would need certificates of their own, and show nothing new.
_WITHOUT_TLS: Final = frozenset({"echoscu", "storescu", "move", "store-get", "store-move"})


def _over_tls(row: Row) -> Row:
    return replace(
        row,
        name=f"{row.name}-tls",
        figures=tuple(
            replace(figure, title=f"{figure.title}, mutual TLS") for figure in row.figures
        ),
        tls=True,
    )


def cannot(row: Row, kind: Kind) -> str:
    """Why *kind* has no figure in *row*; empty where it has."""
    if row.is_query and not kind.can_query:
        return "no archive"
    if row.tls and not kind.can_tls:
        return "no TLS"
    return ""
