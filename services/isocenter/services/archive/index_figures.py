"""Figures of an index: counts, results of an inspection, and disk space."""

from __future__ import annotations

from isocenter.engine.fast_init import dataclass


@dataclass(frozen=True, slots=True)
class IndexStatistics:
    """Counts of what the index holds; ``size`` in bytes of Part 10 files."""

    patients: int
    studies: int
    series: int
    instances: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexInspection:
    """Result of a short inspection of an index, which changes nothing.

    Attributes:
        fault: why it could not be looked at; empty: it could.
        schema_version: what wrote it.
        latest_version: what this program writes.
        damage: what SQLite finds wrong in the file, a line each.
        was_checked: whether all of the file was looked at in the time there was.
        instances: rows; 0 where it could not be looked at.
        sampled: rows that were compared with their files.
        missing, wrong_size, changed: of those, SOP Instance UIDs whose file is gone, or
            is not what was stored.
    """

    fault: str = ""
    schema_version: int = 0
    latest_version: int = 0
    damage: tuple[str, ...] = ()
    was_checked: bool = True
    instances: int = 0
    sampled: int = 0
    missing: tuple[str, ...] = ()
    wrong_size: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomUsage:
    """Disk space in use, and the part that could be freed; in bytes of Part 10 files.

    Attributes:
        size: all objects.
        bytes_a_day: that came, on the average of the last week.
        trash_size: of deleted objects.
        withheld_size: of what is quarantined, or was rejected by a note.
        retention_size: of studies that are past their time by rules of retention.
        committed_size: of objects that other peers have committed for us (rules).
    """

    size: int
    bytes_a_day: float
    trash_size: int
    retention_size: int
    committed_size: int
    withheld_size: int = 0
