"""Films of print jobs: their sizes, and notes of files without a job.

A note is made before the first film is written, and goes with the transaction that makes the job.
When a job is forgotten, its transaction makes a note, which goes when its files have gone.  So a
crash leaves files with a note, and never without.  A database that was made anew, or is one of
before, knows nothing of some: files that are found without a job are given a note as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.errors import StorageError
from isocenter.services.service_classes.print.job import ComposedFilm
from isocenter.storage.database.database import Connection
from isocenter.storage.database.dialect import TEXTS, json_list
from isocenter.storage.database.rows import named_rows, rows_as

_OVER_AT_ONCE: Final = 100

_NOTE: Final = """
    INSERT INTO print_film_note (job_uid, noted_at, is_over) VALUES (:uid, :now, :is_over)
"""
_TAKE_NOTE: Final = "DELETE FROM print_film_note WHERE job_uid = :uid AND is_over = 0"
_GIVE_UP: Final = """
    UPDATE print_film_note SET is_over = 1 WHERE is_over <> 1 AND noted_at < :before
"""
_KNOWN: Final = f"""
    SELECT job_uid FROM print_job WHERE job_uid IN {TEXTS}
    UNION SELECT job_uid FROM print_film_note WHERE job_uid IN {TEXTS}
"""  # noqa: S608
#: 2: nobody is about it; it is left for a while, should this be the wrong database.
_NOTE_UNKNOWN: Final = """
    INSERT INTO print_film_note (job_uid, noted_at, is_over)
    SELECT :uid, :now, 2 WHERE NOT EXISTS (SELECT 1 FROM print_job WHERE job_uid = :uid)
    ON CONFLICT (job_uid) DO NOTHING
"""
_ARE_KEPT: Final = """
    SELECT 1 FROM print_job WHERE job_uid = :uid
    UNION SELECT 1 FROM print_film_note WHERE job_uid = :uid AND is_over = 0
"""
_OVER: Final = """
    SELECT job_uid FROM print_film_note WHERE is_over = 1 ORDER BY job_uid LIMIT :limit
"""
_ADD: Final = """
    INSERT INTO print_film_file (print_job_pk, number, width, height, dots_per_inch)
    VALUES (:job, :number, :width, :height, :dots)
"""
_FILE: Final = """
    SELECT width, height, dots_per_inch FROM print_film_file
    WHERE number = :number
      AND print_job_pk = (SELECT print_job_pk FROM print_job WHERE job_uid = :uid)
"""
#: As earlier releases kept it.
_FILM: Final = """
    SELECT width, height, dots_per_inch, png FROM print_film
    WHERE number = :number
      AND print_job_pk = (SELECT print_job_pk FROM print_job WHERE job_uid = :uid)
"""
_IN_DATABASE: Final = """
    SELECT print_job_pk, job_uid, number, png
    FROM print_film JOIN print_job USING (print_job_pk)
    ORDER BY print_job_pk, number LIMIT 1
"""
_TO_FILE: Final = """
    INSERT INTO print_film_file (print_job_pk, number, width, height, dots_per_inch)
    SELECT print_job_pk, number, width, height, dots_per_inch FROM print_film
    WHERE print_job_pk = :job AND number = :number
"""
_NOTE_GONE: Final = """
    INSERT INTO print_film_note (job_uid, noted_at, is_over) VALUES (:uid, :now, 1)
    ON CONFLICT (job_uid) DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class KeptFilm:
    """A film that is in the database, as earlier releases kept them."""

    print_job_pk: int
    job_uid: str
    number: int
    png: bytes


def note(connection: Connection, job_uid: str, now: float) -> None:
    """There will be films of a job that is yet to come."""
    connection.execute(_NOTE, {"uid": job_uid, "now": now, "is_over": 0})


def take_note(connection: Connection, job_uid: str) -> None:
    """The job comes in this transaction.

    Raises:
        StorageError: it was given up, and its films may be gone.
    """
    if not connection.execute(_TAKE_NOTE, {"uid": job_uid}).rowcount:
        raise StorageError("the films of a print job took too long, and were given up")


def unknown(connection: Connection, job_uids: Sequence[str]) -> list[str]:
    """Those of which there is no job, and no note."""
    uids = json_list(job_uids)
    known = {uid for (uid,) in connection.execute(_KNOWN, (uids, uids)).fetchall()}
    return [uid for uid in job_uids if uid not in known]


def note_unknown(connection: Connection, job_uids: Sequence[str], now: float) -> None:
    """Films were found of jobs that there are not; some of them may have come meanwhile."""
    connection.executemany(_NOTE_UNKNOWN, [{"uid": uid, "now": now} for uid in job_uids])


def end_note(connection: Connection, job_uid: str) -> None:
    """The films of a job are gone."""
    connection.execute("DELETE FROM print_film_note WHERE job_uid = :uid", {"uid": job_uid})


def give_up(connection: Connection, before: float) -> None:
    """Jobs whose films were begun, or found, before that time will not come any more."""
    connection.execute(_GIVE_UP, {"before": before})


def are_kept(connection: Connection, job_uid: str) -> bool:
    """Whether there is a job, or it is about to come."""
    return connection.execute(_ARE_KEPT, {"uid": job_uid}).fetchone() is not None


def over(connection: Connection) -> list[str]:
    """Jobs whose films are to be removed, or some of them."""
    return [uid for (uid,) in connection.execute(_OVER, {"limit": _OVER_AT_ONCE}).fetchall()]


def add(connection: Connection, job: int, films: Sequence[ComposedFilm]) -> None:
    """The films of a job, which are written already."""
    for number, film in enumerate(films, 1):
        connection.execute(
            _ADD,
            {
                "job": job,
                "number": number,
                "width": film.width,
                "height": film.height,
                "dots": film.dots_per_inch,
            },
        )


def leave(connection: Connection, job: int, job_uid: str, now: float) -> None:
    """The job goes in this transaction, and its films are to follow."""
    for table in ("print_film", "print_film_file"):
        connection.execute(
            f"DELETE FROM {table} WHERE print_job_pk = ?",  # noqa: S608  (two constants)
            (job,),
        )
    connection.execute(_NOTE, {"uid": job_uid, "now": now, "is_over": 1})


def film(connection: Connection, job_uid: str, number: int) -> ComposedFilm | None:
    """A film, without its picture unless that is in the database; None: there is none."""
    values = {"uid": job_uid, "number": number}
    for row in named_rows(connection.execute(_FILE, values)):
        return ComposedFilm(png=b"", **row)
    return next(iter(rows_as(ComposedFilm, connection.execute(_FILM, values), png=bytes)), None)


def in_database(connection: Connection) -> KeptFilm | None:
    """A film that is in the database; None: there is none."""
    return next(iter(rows_as(KeptFilm, connection.execute(_IN_DATABASE), png=bytes)), None)


def to_file(connection: Connection, kept: KeptFilm, now: float) -> None:
    """The picture of a film is a file by now; or the job was forgotten meanwhile, by a node of an
    earlier release."""
    values = {"job": kept.print_job_pk, "number": kept.number}
    if not connection.execute(_TO_FILE, values).rowcount:
        connection.execute(_NOTE_GONE, {"uid": kept.job_uid, "now": now})
    connection.execute(
        "DELETE FROM print_film WHERE print_job_pk = :job AND number = :number", values
    )
