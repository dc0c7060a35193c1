"""Print management with DCMTK's printer and spooler, and with pynetdicom in both roles."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
import trio
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from isocenter.engine.fast_init import dataclass
from isocenter.storage.stores import open_sqlite_stores
from services.service_classes.print.samples import (
    colour_item,
    colours,
    contains,
    dataset,
    gray_item,
    pattern,
    reference,
)
from support.ports import free_port
from support.print_peers import dcmprscp, print_files
from support.processes import (
    ISOCENTER,
    isocenter_command,
    program,
    run,
    served_archive,
    wait_for_line,
    wait_until,
)

pytestmark = [
    pytest.mark.interop("dcmprscp", "dcmprscu", "dcmpsprt"),
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]
GRAY, COLOUR = "1.2.840.10008.5.1.1.9", "1.2.840.10008.5.1.1.18"
SESSION, BOX = "1.2.840.10008.5.1.1.1", "1.2.840.10008.5.1.1.2"
GRAY_BOX, COLOUR_BOX = "1.2.840.10008.5.1.1.4", "1.2.840.10008.5.1.1.4.1"
PRINTER, JOB = "1.2.840.10008.5.1.1.16", "1.2.840.10008.5.1.1.14"
SECONDS = 120.0


@dataclass(slots=True)
class Films:
    """Our printer, and the films that it makes."""

    process: Any
    port: int
    folder: Path

    def pictures(self, count: int) -> list[np.ndarray[Any, Any]]:
        """Its films, when there are so many."""
        wait_until(lambda: len(list(self.folder.glob("2*.png"))) >= count, self.process)
        return [
            np.asarray(imagecodecs.png_decode(path.read_bytes()))
            for path in sorted(self.folder.glob("2*.png"), key=lambda path: path.stat().st_mtime)
        ]


@contextmanager
def printscp(folder: Path, *options: object) -> Iterator[Films]:
    """``isocenter printscp`` that makes PNG files."""
    films, log = folder / "films", folder / "printscp.log"
    films.mkdir()
    words = (*ISOCENTER, "printscp", "0", "--output", "png", "--output-dir", films, *options)
    with program(*words, log=log) as process:
        ready = wait_for_line(process, r"^ready dicom://[^ ]*:(\d+)", log)
        yield Films(process, int(ready[1]), films)


def as_shown(path: Path) -> np.ndarray[Any, Any]:
    """The pixels of a Hardcopy Grayscale object as gray of eight bits."""
    stored = pydicom.dcmread(path)
    top = (1 << stored.BitsStored) - 1
    return np.floor(stored.pixel_array / top * 255 + 0.5).astype(np.uint8)


def test_dcmtk_replays_its_print_jobs_into_our_printer(tmp_path: Path) -> None:
    images = [get_testdata_file("CT_small.dcm"), get_testdata_file("MR_small.dcm")]
    with printscp(tmp_path) as films:
        files = print_files(tmp_path / "dcmtk", films.port)
        made = run(
            "dcmpsprt", "-v", "-c", files.config, "-p", "PRINTER", "--layout", "1", "2",
            "--filmsize", "14INX17IN", "--magnification", "NONE", *images,
        )  # fmt: skip
        assert made.returncode == 0, made.stdout
        (stored,) = files.stored_prints()
        sent = run("dcmprscu", "-v", "-c", files.config, "-p", "PRINTER", stored)
        assert sent.returncode == 0, sent.stdout
        (film,) = films.pictures(1)
        shown = [as_shown(path) for path in files.hardcopies()]
        assert film.shape == (2550, 2100)
        upper, lower = film[:1275], film[1275:]
        assert {contains(upper, each) for each in shown} == {True, False}
        assert {contains(lower, each) for each in shown} == {True, False}


def test_dcmtk_prints_a_session_with_a_lookup_table_and_texts(tmp_path: Path) -> None:
    with printscp(tmp_path) as films:
        files = print_files(tmp_path / "dcmtk", films.port)
        made = run(
            "dcmpsprt", "-v", "-c", files.config, "-p", "PRINTER", "--lin-od",
            "--annotation", "Film of a test", "--trim", "--border", "BLACK",
            "--magnification", "CUBIC", get_testdata_file("MR_small.dcm"),
        )  # fmt: skip
        assert made.returncode == 0, made.stdout
        (stored,) = files.stored_prints()
        sent = run(
            "dcmprscu", "-v", "-c", files.config, "-p", "PRINTER", "--session-print",
            "--copies", "3", "--priority", "high", "--label", "Test", stored,
        )  # fmt: skip
        assert sent.returncode == 0, sent.stdout
        (film,) = films.pictures(1)
        assert film[:42].any() or film[-42:].any(), "the text"


def test_dcmtks_printer_keeps_what_we_print(tmp_path: Path) -> None:
    image = tmp_path / "image.png"
    shown = pattern(300, 200)
    image.write_bytes(imagecodecs.png_encode(shown))
    with dcmprscp(tmp_path) as files:
        peer = f"PRINTER@127.0.0.1:{files.port}"
        done = isocenter_command("printscu", peer, "status")
        assert done.returncode == 0, done.stdout
        assert "NORMAL" in done.stdout
        done = isocenter_command(
            "printscu", peer, "print", image, image, image, "--format", "STANDARD\\1,2",
            "--magnification", "CUBIC", "--film-size", "14INX17IN", "--trim", "--lut", "LIN OD",
            "--copies", "2", "--medium", "CLEAR FILM",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        assert len(files.stored_prints()) == 2
        assert len(files.hardcopies()) == 3
        for path in files.hardcopies():
            assert np.array_equal(pydicom.dcmread(path).pixel_array, shown)
        (film, _) = (pydicom.dcmread(path) for path in files.stored_prints())
        box = film.FilmBoxContentSequence[0]
        assert box.ImageDisplayFormat == "STANDARD\\1,2"
        assert box.FilmSizeID == "14INX17IN"
        assert box.MagnificationType == "CUBIC"
        refused = isocenter_command("printscu", peer, "print", image, "--format", "STANDARD\\7,7")
        assert refused.returncode == 1
        assert re.search(r"the printer answered 01\d\dH", refused.stdout), refused.stdout


def children_of(process: int) -> int:
    """How many processes it has begun that live."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return sum(len(listed.read_text().split()) for listed in tasks)


class Printer:
    """pynetdicom as SCU of a printer."""

    def __init__(self, port: int, meta: str) -> None:
        entity = AE("PYNET")
        for uid in (meta, JOB):
            entity.add_requested_context(uid)
        self.meta = meta
        events = [(evt.EVT_N_EVENT_REPORT, lambda event: (0x0000, None))]
        self.association = entity.associate(
            "127.0.0.1", port, ae_title="ISOCENTER", evt_handlers=events
        )
        assert self.association.is_established
        below = self.association.dul.socket
        assert below is not None
        assert below.socket is not None
        self._socket = below.socket

    def drop(self) -> None:
        """Leave an association whose server is dead."""
        self.association.abort()
        self.association.join(SECONDS)
        # pynetdicom leaves it to the garbage collector where the other side was first.
        self._socket.close()

    def print(self, items: list[Dataset], copies: int = 1, **box: Any) -> str:
        """Print one film; the UID of its job."""
        ask, is_colour = self.association, self.meta == COLOUR
        told = dataset(NumberOfCopies=copies)
        status, _ = ask.send_n_create(told, SESSION, "1.2.3", meta_uid=self.meta)
        assert status.Status == 0
        values = {"ReferencedFilmSessionSequence": [reference(SESSION, "1.2.3")], **box}
        status, made = ask.send_n_create(dataset(**values), BOX, "1.2.4", meta_uid=self.meta)
        assert status.Status == 0
        image_class = COLOUR_BOX if is_colour else GRAY_BOX
        name = "BasicColorImageSequence" if is_colour else "BasicGrayscaleImageSequence"
        for position, (item, named) in enumerate(
            zip(items, made.ReferencedImageBoxSequence, strict=True), 1
        ):
            assert named.ReferencedSOPClassUID == image_class
            told = dataset(**{"ImageBoxPosition": position, name: [item]})
            status, _ = ask.send_n_set(
                told, image_class, named.ReferencedSOPInstanceUID, meta_uid=self.meta
            )
            assert status.Status == 0
        status, reply = ask.send_n_action(None, 1, BOX, "1.2.4", meta_uid=self.meta)
        assert status.Status == 0
        assert ask.send_n_delete(SESSION, "1.2.3", meta_uid=self.meta).Status == 0
        return str(reply[0x21000500][0].ReferencedSOPInstanceUID)


def test_pynetdicom_prints_in_colour_and_gray(tmp_path: Path) -> None:
    shown = colours(300, 200)
    with printscp(tmp_path, "--film-size", "A4") as films:
        printer = Printer(films.port, COLOUR)
        layout = {"ImageDisplayFormat": "STANDARD\\1,1", "MagnificationType": "NONE"}
        printer.print([colour_item(shown)], **layout)
        (film,) = films.pictures(1)
        assert film.shape == (1754, 1240, 3)
        assert contains(film, shown)
        printer.association.release()
        printer = Printer(films.port, GRAY)
        job = printer.print([gray_item(pattern(100, 100, 12), 12)] * 2, **{
            **layout, "ImageDisplayFormat": "ROW\\1,1",
        })  # fmt: skip
        films.pictures(2)
        status, told = printer.association.send_n_get([], JOB, job)
        assert status.Status == 0
        assert told.ExecutionStatus in ("PRINTING", "DONE")
        printer.association.release()


def test_pynetdicom_gets_what_we_print_in_colour(tmp_path: Path) -> None:
    shown = colours(60, 40)
    image = tmp_path / "image.png"
    image.write_bytes(imagecodecs.png_encode(shown))
    came: list[Any] = []

    def create(event: Any) -> tuple[int, Dataset]:
        told = event.attribute_list or Dataset()
        came.append((event.request.AffectedSOPClassUID, told))
        if event.request.AffectedSOPClassUID == BOX:
            told.ReferencedImageBoxSequence = [reference(COLOUR_BOX, "1.2.5")]
        return 0x0000, told

    def change(event: Any) -> tuple[int, Dataset]:
        came.append((event.request.RequestedSOPClassUID, event.modification_list))
        return 0x0000, Dataset()

    entity = AE("PRINTER")
    entity.add_supported_context(COLOUR)
    handlers = [
        (evt.EVT_N_CREATE, create),
        (evt.EVT_N_SET, change),
        (evt.EVT_N_ACTION, lambda event: (0xB603, None)),
        (evt.EVT_N_DELETE, lambda event: 0x0000),
    ]
    port = free_port()
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    try:
        done = isocenter_command(
            "printscu", f"PRINTER@127.0.0.1:{port}", "print", image, "--color", "--label", "Größe"
        )
    finally:
        server.shutdown()
    assert done.returncode == 0, done.stdout
    assert "B603H" in done.stdout
    told = dict(came)
    assert told[SESSION].FilmSessionLabel == "Größe"
    (item,) = told[COLOUR_BOX].BasicColorImageSequence
    planes = np.frombuffer(item.PixelData, np.uint8).reshape(3, 60, 40)
    assert np.array_equal(planes.transpose(1, 2, 0), shown)


def test_a_job_survives_the_death_of_the_server(tmp_path: Path) -> None:
    """Killed when the answer has left, whatever was done with the job by then."""
    films = tmp_path / "films"
    config = tmp_path / "isocenter.toml"
    config.write_text(
        f'[print]\nenabled = true\noutputs = ["png", "queue"]\ndirectory = "{films}"\n'
        "longest_retry = 1.0\n[web]\nenabled = false\n"
    )
    options = ("--config", config)
    shown = pattern(80, 60)
    layout = {"ImageDisplayFormat": "STANDARD\\1,1", "MagnificationType": "NONE"}
    jobs = []
    for _ in range(2):
        with served_archive(tmp_path, *options) as archive:
            printer = Printer(archive.port, GRAY)
            jobs.append(printer.print([gray_item(shown)], **layout))
            archive.kill()
            printer.drop()
    with served_archive(tmp_path, *options) as archive:
        wait_until(lambda: len(list(films.glob("2*.png"))) == 2, archive.process)
        for job in jobs:
            made = imagecodecs.png_decode((films / f"{job}-1.png").read_bytes())
            assert contains(made, shown)
        # No halves of files stay; the other output is tried again, and this one with it.
        wait_until(lambda: not list(films.glob(".*")), archive.process)


async def _left_behind(database: Path) -> list[tuple[Any, list[bool]]]:
    """Jobs in the database of a server that is dead, and whether each of their films is there."""
    async with open_sqlite_stores(database) as stores:
        return [
            (
                job,
                [
                    await stores.print_jobs.film(job.job_uid, number) is not None
                    for number in range(1, job.films + 1)
                ],
            )
            for job in await stores.print_jobs.jobs(limit=100)
        ]


def test_a_server_that_dies_leaves_whole_jobs_or_none(tmp_path: Path) -> None:
    """Killed with an open film session, while films of one are composed, while they are written,
    and when a job has failed."""
    config = tmp_path / "isocenter.toml"
    config.write_text(
        '[print]\nenabled = true\noutputs = ["queue"]\ndots_per_inch = 300\n'
        "give_up_after = 1.0\nlongest_retry = 0.1\n[web]\nenabled = false\n"
    )
    options = ("--config", config)
    item = gray_item(pattern(64, 64))

    def opened(archive: Any, films: int) -> Printer:
        """A film session of that many films, not printed yet."""
        printer = Printer(archive.port, GRAY)
        ask = printer.association
        assert ask.send_n_create(None, SESSION, "1.2.3", meta_uid=GRAY)[0].Status == 0
        for number in range(films):
            box = dataset(
                ImageDisplayFormat="STANDARD\\1,1",
                ReferencedFilmSessionSequence=[reference(SESSION, "1.2.3")],
            )
            status, made = ask.send_n_create(box, BOX, f"1.2.4.{number}", meta_uid=GRAY)
            assert status.Status == 0
            named = made.ReferencedImageBoxSequence[0].ReferencedSOPInstanceUID
            told = dataset(ImageBoxPosition=1, BasicGrayscaleImageSequence=[item])
            assert ask.send_n_set(told, GRAY_BOX, named, meta_uid=GRAY)[0].Status == 0
        return printer

    with served_archive(tmp_path, *options) as archive:
        database = next(archive.data_dir.glob("*.sqlite*"), archive.data_dir / "index.db")
        printer = opened(archive, 1)
        archive.kill()
        printer.drop()
    assert trio.run(_left_behind, database) == []
    spool = tmp_path / "data" / "films"
    # When a process is at work on the films, and when files come of them.
    moments: list[tuple[int, Callable[[], bool]]] = [
        (8, lambda: children_of(archive.process.pid) > 0),
        (2, spool.exists),
    ]
    for films, is_begun in moments:
        with served_archive(tmp_path, *options) as archive:
            printer = opened(archive, films)
            asking = threading.Thread(
                target=printer.association.send_n_action,
                args=(None, 1, SESSION, "1.2.3"),
                kwargs={"meta_uid": GRAY},
            )
            asking.start()
            wait_until(is_begun, archive.process)
            archive.kill()
            printer.drop()
            asking.join()
        for job, found in trio.run(_left_behind, database):
            assert found == [True] * job.films
    jobs = {job.job_uid for job, _ in trio.run(_left_behind, database)}
    with served_archive(tmp_path, *options) as archive:
        # What no job came of goes at the start.
        wait_until(lambda: {path.name for path in spool.iterdir()} == jobs, archive.process)
        printer = opened(archive, 2)
        status, _ = printer.association.send_n_action(None, 1, SESSION, "1.2.3", meta_uid=GRAY)
        assert status.Status == 0

        def has_failed() -> bool:
            return b"was given up" in archive.log.read_bytes()

        wait_until(has_failed, archive.process)
        archive.kill()
        printer.drop()
    left = trio.run(_left_behind, database)
    assert "failed" in [job.state.value for job, _ in left]
    assert all(found == [True] * job.films for job, found in left)
