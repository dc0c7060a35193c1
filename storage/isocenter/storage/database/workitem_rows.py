"""Rows of workitems in the database, and how they are read."""

# ruff: noqa: S608  (names of columns come from constants, values are bound)

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.service_classes.ups.workitem import Workitem, WorkitemState
from isocenter.storage.database.database import Connection

#: What was kept was judged when it came.
KEPT_LIMITS: Final = replace(DEFAULT_LIMITS, identifier=1 << 30, identifier_elements=1 << 30)
#: Workitems of one hop to the database's thread, or in memory.
BLOCK_ROWS: Final = 100
#: Columns that `read_workitem` takes.
SELECTED: Final = "sop_instance_uid, state, transaction_uid, created_at, changed_at, data_set"


def get_workitem(connection: Connection, sop_instance_uid: str) -> Workitem | None:
    """A workitem; None: there is none."""
    row = connection.execute(
        f"SELECT {SELECTED} FROM workitem WHERE sop_instance_uid = ?", (sop_instance_uid,)
    ).fetchone()
    return None if row is None else read_workitem(row)


def read_workitem(row: Sequence[object]) -> Workitem:
    """The workitem of a row of `SELECTED`."""
    uid, state, transaction_uid, created_at, changed_at, data_set = row
    assert isinstance(created_at, float)
    assert isinstance(changed_at, float)
    assert isinstance(data_set, bytes)
    return Workitem(
        sop_instance_uid=str(uid),
        state=WorkitemState(state),
        transaction_uid=str(transaction_uid),
        created_at=created_at,
        changed_at=changed_at,
        attributes=AttributeList.read(data_set, EXPLICIT_VR_LITTLE_ENDIAN, KEPT_LIMITS),
    )


def key_of_workitem(connection: Connection, sop_instance_uid: str) -> int:
    """The key of its row.

    Raises:
        KeyError: there is no such workitem.
    """
    row = connection.execute(
        "SELECT workitem_pk FROM workitem WHERE sop_instance_uid = ?", (sop_instance_uid,)
    ).fetchone()
    if row is None:
        raise KeyError(sop_instance_uid)
    key: int = row[0]
    return key


def all_workitems(connection: Connection) -> Iterator[tuple[int, Workitem]]:
    """All workitems, a block of them in memory at a time."""
    last = 0
    while True:
        rows = connection.execute(
            f"SELECT workitem_pk, {SELECTED} FROM workitem WHERE workitem_pk > ? "
            "ORDER BY workitem_pk LIMIT ?",
            (last, BLOCK_ROWS),
        ).fetchall()
        for number, *row in rows:
            last = number
            yield number, read_workitem(row)
        if len(rows) < BLOCK_ROWS:
            return
