"""Outputs of print jobs that are files or a queue of CUPS."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from isocenter.services.dicom.film.pdf import Page, write_pdf
from isocenter.services.errors import text_of
from isocenter.services.service_classes.print.job import ComposedFilm, PrintJob
from isocenter.services.service_classes.print.spooler import OutputError
from isocenter.services.system.programs import ProgramError, run_program

#: Handed on to ``lp``: where it finds itself and its server.
_ENVIRONMENT: Final = ("PATH", "HOME", "LANG", "CUPS_SERVER", "CUPS_USER", "IPP_PORT")


def _pdf(films: Sequence[ComposedFilm]) -> bytes:
    return write_pdf([Page(film.png, film.dots_per_inch) for film in films], "Film")


def _write(path: Path, content: bytes) -> None:
    """A file that is whole or not there, and durable."""
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    with open(beside, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def _save(path: Path, content: bytes) -> None:
    try:
        await trio.to_thread.run_sync(_write, path, content)
    except OSError as error:
        raise OutputError(f"{path}: {text_of(error)}") from error


class PdfFiles:
    """A PDF of each job, in a folder: a page for each film."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, job: PrintJob, films: Sequence[ComposedFilm]) -> None:
        content = await trio.to_thread.run_sync(_pdf, films)
        await _save(self._folder / f"{job.job_uid}.pdf", content)


class PngFiles:
    """A PNG of each film, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, job: PrintJob, films: Sequence[ComposedFilm]) -> None:
        for number, film in enumerate(films, 1):
            await _save(self._folder / f"{job.job_uid}-{number}.png", film.png)


class PrintQueue:
    """A queue of CUPS, which ``lp`` hands jobs to.

    Args:
        name: of the queue; empty: the default one.
        program: what hands over, and its first arguments.
    """

    def __init__(self, name: str = "", program: Sequence[str] = ("lp",)) -> None:
        self._name = name
        self._program = tuple(program)

    async def put(self, job: PrintJob, films: Sequence[ComposedFilm]) -> None:
        content = await trio.to_thread.run_sync(_pdf, films)
        where = ["-d", self._name] if self._name else []
        argv = [
            *self._program, *where, "-n", str(job.copies), "-t", job.job_uid, "-o", "fit-to-page",
            "-s", "--", "-",
        ]  # fmt: skip
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        try:
            await run_program(argv, content, environment)
        except ProgramError as error:
            raise OutputError(str(error)) from error
