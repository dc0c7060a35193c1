"""Tiers in the database: adapter of the port `TierBook`."""

# ruff: noqa: S608  (what is put together are constants, values are bound)

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from time import time
from typing import Any, Final

from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.tiers.ports import (
    TierFault,
    TierMove,
    TierOrder,
    TierPin,
    TierUsage,
    UnfinishedMove,
)
from isocenter.services.archive.tiers.tier import Tier, TierRule, prefix_of, tier_of
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.dialect import CLOCK, TEXTS, json_list
from isocenter.storage.database.index.totals import read_statistics
from isocenter.storage.database.retention import conditions_of
from isocenter.storage.database.rows import rows_as
from isocenter.storage.database.text import replace_surrogates

#: Writes beside an exchange of what the index names.
ExchangeHook = Callable[[Connection, StoredInstance, StoredInstance], None]

#: Rules let an object be for so long that could not be moved.
_REST_SECONDS: Final = 86_400.0
_DAY_SECONDS: Final = 86_400.0
#: A study that somebody retrieved stays where it is for so long.
_KEPT_DAYS: Final = 7
_FAULT_LENGTH: Final = 500
_MARK_LENGTH: Final = len(prefix_of(Tier.WARM))
#: What keys of a tier begin with, the hot one left out; all have one length.
_MARK: Final = f"substr(i.object_key, 1, {_MARK_LENGTH})"
_IS_MARKED: Final = "substr(i.object_key, 1, 1) = '~'"
_STORED: Final = """
    sop_instance_uid, sop_class_uid, study_instance_uid, series_instance_uid,
    transfer_syntax_uid, object_key, size, data_set_offset, digest
"""
#: What is corrected now, or is kept as the original of something, stays where it is.
_IS_FREE: Final = """
    NOT EXISTS (SELECT 1 FROM tier_move m WHERE m.sop_instance_uid = i.sop_instance_uid
                AND (m.state <> 'failed' OR m.at > ?))
    AND NOT EXISTS (SELECT 1 FROM corrected_instance c
                    WHERE c.sop_instance_uid = i.sop_instance_uid
                      AND (c.state IN ('due', 'made') OR c.original_key = i.object_key))
"""
_INSTANCES: Final = f"""
    SELECT {_STORED} FROM study JOIN series USING (study_pk) JOIN instance i USING (series_pk)
    WHERE study_instance_uid = ? AND {{place}} AND {_IS_FREE} ORDER BY instance_pk LIMIT ?
"""
_CANDIDATES: Final = f"""
    SELECT study_instance_uid FROM study
    WHERE NOT EXISTS (SELECT 1 FROM tier_pin p
                      WHERE p.study_instance_uid = study.study_instance_uid)
      AND EXISTS (SELECT 1 FROM series JOIN instance i USING (series_pk)
                  WHERE series.study_pk = study.study_pk AND {{place}} AND {_IS_FREE})
      {{conditions}} ORDER BY study_pk LIMIT ?
"""
_STUDIES_IN: Final = f"""
    SELECT DISTINCT study_instance_uid
    FROM study JOIN series USING (study_pk) JOIN instance i USING (series_pk)
    WHERE {_IS_MARKED} AND {_MARK} = ? AND study_instance_uid > ?
    ORDER BY study_instance_uid LIMIT ?
"""
_IS_COMPLETE: Final = """
    NOT EXISTS (SELECT 1 FROM study_completion c
                WHERE c.study_instance_uid = study.study_instance_uid AND c.state = 'receiving')
"""
_NOT_JUST_USED: Final = """
    NOT EXISTS (SELECT 1 FROM study_access a
                WHERE a.study_instance_uid = study.study_instance_uid AND a.last_day > ?)
"""
_IS_LARGE: Final = """
    (SELECT sum(i.size) FROM series JOIN instance i USING (series_pk)
     WHERE series.study_pk = study.study_pk) >= ?
"""
_BEGIN: Final = f"""
    INSERT INTO tier_move (sop_instance_uid, study_instance_uid, state, source_key, target_key,
                           process, until, at)
    VALUES (:uid, :study, 'copying', :source, :target, :process, {CLOCK} + :seconds, :now)
    ON CONFLICT (sop_instance_uid) DO UPDATE SET state = 'copying', source_key = :source,
        target_key = :target, process = :process, until = {CLOCK} + :seconds, at = :now, fault = ''
    WHERE tier_move.state = 'failed'
"""
_LEAVING: Final = """
    UPDATE tier_move SET state = 'leaving'
    WHERE sop_instance_uid = :uid AND target_key = :target AND process = :process
      AND state = 'copying'
"""
_EXCHANGE: Final = """
    UPDATE instance SET object_key = :target
    WHERE sop_instance_uid = :uid AND object_key = :source AND digest = :digest
      AND NOT EXISTS (SELECT 1 FROM corrected_instance c WHERE c.sop_instance_uid = :uid
                      AND (c.state IN ('due', 'made') OR c.original_key = :source))
"""
_CLAIM: Final = f"""
    UPDATE tier_move SET process = :process, until = {CLOCK} + :seconds
    WHERE state <> 'failed' AND until <= {CLOCK}
"""
_ORDER: Final = """
    INSERT INTO tier_order (study_instance_uid, tier, actor, at) VALUES (?, ?, ?, ?)
    ON CONFLICT (study_instance_uid) DO UPDATE SET tier = excluded.tier,
        actor = excluded.actor, at = excluded.at
"""
_PIN: Final = """
    INSERT INTO tier_pin (study_instance_uid, tier, actor, reason, at) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (study_instance_uid) DO UPDATE SET tier = excluded.tier,
        actor = excluded.actor, reason = excluded.reason, at = excluded.at
"""
#: By level: the columns of the keys, and the tables.
_LEVELS: Final = {
    Level.PATIENT: (
        ("patient_id",),
        """patient_statement p JOIN study_statement s USING (patient_statement_pk)
        JOIN series ON series.study_pk = s.study_pk JOIN instance i USING (series_pk)""",
    ),
    Level.STUDY: (
        ("study_instance_uid",),
        "study JOIN series USING (study_pk) JOIN instance i USING (series_pk)",
    ),
    Level.SERIES: (
        ("study_instance_uid", "series_instance_uid"),
        "study JOIN series USING (study_pk) JOIN instance i USING (series_pk)",
    ),
    Level.IMAGE: (("sop_instance_uid",), "instance i"),
}


class DatabaseTiers:
    """See `isocenter.services.archive.tiers.ports.TierBook`.

    Args:
        on_exchange: what else is written when the index names another place.
        now: seconds since 1970.
    """

    def __init__(
        self,
        database: Database,
        *,
        on_exchange: Sequence[ExchangeHook] = (),
        now: Callable[[], float] = time,
    ) -> None:
        self._database = database
        self._on_exchange = on_exchange
        self._now = now

    async def candidates(self, rule: TierRule, now: float, *, limit: int) -> Sequence[str]:
        """See `TierBook.candidates`."""
        conditions, values = conditions_of(rule, now)
        conditions.append(_NOT_JUST_USED)
        values.append(int(now // _DAY_SECONDS) - _KEPT_DAYS)
        if rule.is_complete:
            conditions.append(_IS_COMPLETE)
        if rule.least_size:
            conditions.append(_IS_LARGE)
            values.append(rule.least_size)
        place, marks = _not_in(_not_faster(rule.tier))
        statement = _CANDIDATES.format(
            place=place, conditions="".join(f" AND ({each})" for each in conditions)
        )
        rows = await self._database.read(
            _fetch, statement, (*marks, now - _REST_SECONDS, *values, limit)
        )
        return [uid for (uid,) in rows]

    async def instances(
        self, study_instance_uid: str, tier: Tier, *, limit: int, is_faster: bool = False
    ) -> Sequence[StoredInstance]:
        """See `TierBook.instances`."""
        place, marks = _not_in(_not_faster(tier) if is_faster else [tier])
        before = self._now() - _REST_SECONDS
        return await self._database.read(
            _instances,
            _INSTANCES.format(place=place),
            (study_instance_uid, *marks, before, limit),
        )

    async def begin(
        self, moves: Sequence[TierMove], process: str, seconds: float
    ) -> Sequence[bool]:
        """See `TierBook.begin`."""
        return await self._database.write(_begin, moves, process, seconds, self._now())

    async def renew(self, process: str, seconds: float) -> None:
        """See `TierBook.renew`."""
        await self._database.write(
            _execute,
            f"UPDATE tier_move SET until = {CLOCK} + :seconds "
            f"WHERE process = :process AND state <> 'failed' AND until > {CLOCK}",
            {"process": process, "seconds": seconds},
        )

    async def exchange(self, moves: Sequence[TierMove], process: str) -> Sequence[bool]:
        """See `TierBook.exchange`."""
        return await self._database.write(_exchange, moves, process, self._on_exchange)

    async def end(self, sop_instance_uids: Sequence[str]) -> None:
        """See `TierBook.end`."""
        await self._database.write(
            _execute,
            f"DELETE FROM tier_move WHERE state <> 'failed' AND sop_instance_uid IN {TEXTS}",
            (json_list(sop_instance_uids),),
        )

    async def superfluous(
        self, process: str, sop_instance_uids: Sequence[str]
    ) -> Sequence[UnfinishedMove]:
        """See `TierBook.superfluous`."""
        return await self._database.read(
            _superfluous,
            f"process = ? AND sop_instance_uid IN {TEXTS}",
            (process, json_list(sop_instance_uids)),
        )

    async def failed(self, move: TierMove, fault: str) -> None:
        """See `TierBook.failed`."""
        await self._database.write(
            _execute,
            "UPDATE tier_move SET state = 'failed', fault = ?, at = ? "
            "WHERE sop_instance_uid = ? AND target_key = ?",
            (
                replace_surrogates(fault[:_FAULT_LENGTH]),
                self._now(),
                move.stored.sop_instance_uid,
                move.target_key,
            ),
        )

    async def unfinished(self, process: str, seconds: float) -> Sequence[UnfinishedMove]:
        """See `TierBook.unfinished`."""
        return await self._database.write(_unfinished, process, seconds)

    async def order(self, orders: Sequence[TierOrder]) -> None:
        """See `TierBook.order`."""
        await self._database.write(_order, orders, self._now())

    async def orders(self, *, limit: int) -> Sequence[TierOrder]:
        """See `TierBook.orders`."""
        return await self._database.read(_orders, limit)

    async def fulfilled(self, order: TierOrder) -> None:
        """See `TierBook.fulfilled`."""
        await self._database.write(
            _execute,
            "DELETE FROM tier_order WHERE study_instance_uid = ? AND tier = ?",
            (order.study_instance_uid, order.tier.value),
        )

    async def pin(self, pin: TierPin) -> None:
        """See `TierBook.pin`."""
        texts = map(replace_surrogates, (pin.actor, pin.reason))
        values = (pin.study_instance_uid, pin.tier.value, *texts, pin.at)
        await self._database.write(_execute, _PIN, values)

    async def unpin(self, study_instance_uid: str) -> bool:
        """See `TierBook.unpin`."""
        return bool(
            await self._database.write(
                _execute,
                "DELETE FROM tier_pin WHERE study_instance_uid = ?",
                (study_instance_uid,),
            )
        )

    async def pins(self) -> Sequence[TierPin]:
        """See `TierBook.pins`."""
        return await self._database.read(_pins)

    async def faults(self, *, limit: int) -> Sequence[TierFault]:
        """See `TierBook.faults`."""
        return await self._database.read(_faults, limit)

    async def studies_in(self, tier: Tier, *, after: str, limit: int) -> Sequence[str]:
        """See `TierBook.studies_in`."""
        rows = await self._database.read(
            _fetch, _STUDIES_IN, (prefix_of(tier), replace_surrogates(after), limit)
        )
        return [uid for (uid,) in rows]

    async def usage(self) -> Sequence[TierUsage]:
        """See `TierBook.usage`."""
        return await self._database.read(_usage)

    async def tiers_of(
        self, level: Level, uids: Sequence[tuple[str, ...]]
    ) -> Sequence[Collection[Tier]]:
        """See `TierBook.tiers_of`."""
        return await self._database.read(_tiers_of, level, uids)


def _not_faster(tier: Tier) -> list[Tier]:
    return [one for one in Tier if one.depth >= tier.depth]


def _not_in(tiers: Sequence[Tier]) -> tuple[str, list[str]]:
    """Condition: an instance is in none of these, and what is bound to it."""
    marks = [prefix_of(tier) for tier in tiers if tier is not Tier.HOT]
    conditions = []
    if Tier.HOT in tiers:
        conditions.append(_IS_MARKED)
    if marks:
        conditions.append(f"{_MARK} NOT IN ({', '.join('?' * len(marks))})")
    return " AND ".join(conditions), marks


def _fetch(connection: Connection, statement: str, values: Sequence[Any]) -> list[Any]:
    return connection.execute(statement, values).fetchall()


def _execute(connection: Connection, statement: str, values: Any) -> int:
    return connection.execute(statement, values).rowcount


def _instances(
    connection: Connection, statement: str, values: Sequence[Any]
) -> list[StoredInstance]:
    return rows_as(StoredInstance, connection.execute(statement, values))


def _begin(
    connection: Connection, moves: Sequence[TierMove], process: str, seconds: float, now: float
) -> list[bool]:
    return [
        bool(
            connection.execute(
                _BEGIN,
                {
                    "uid": move.stored.sop_instance_uid,
                    "study": move.stored.study_instance_uid,
                    "source": move.stored.object_key,
                    "target": move.target_key,
                    "process": process,
                    "seconds": seconds,
                    "now": now,
                },
            ).rowcount
        )
        for move in moves
    ]


def _exchange(
    connection: Connection,
    moves: Sequence[TierMove],
    process: str,
    on_exchange: Sequence[ExchangeHook],
) -> list[bool]:
    found = []
    for move in moves:
        stored = move.stored
        values = {
            "uid": stored.sop_instance_uid,
            "source": stored.object_key,
            "target": move.target_key,
            "digest": stored.digest,
            "process": process,
        }
        is_ours = bool(connection.execute(_LEAVING, values).rowcount)
        is_moved = is_ours and bool(connection.execute(_EXCHANGE, values).rowcount)
        if is_ours and not is_moved:
            connection.execute(
                "UPDATE tier_move SET state = 'copying' WHERE sop_instance_uid = :uid", values
            )
        if is_moved:
            after = replace(stored, object_key=move.target_key)
            for each in on_exchange:
                each(connection, stored, after)
        found.append(is_moved)
    return found


def _unfinished(connection: Connection, process: str, seconds: float) -> list[UnfinishedMove]:
    connection.execute(_CLAIM, {"process": process, "seconds": seconds})
    return _superfluous(connection, "process = ?", (process,))


def _superfluous(
    connection: Connection, condition: str, values: Sequence[str]
) -> list[UnfinishedMove]:
    rows = connection.execute(
        "SELECT sop_instance_uid, CASE WHEN state = 'leaving' THEN source_key ELSE target_key END "
        f"AS gone_key FROM tier_move WHERE {condition} AND state <> 'failed'",
        values,
    )
    return rows_as(UnfinishedMove, rows)


def _order(connection: Connection, orders: Sequence[TierOrder], now: float) -> None:
    connection.executemany(
        _ORDER,
        [
            (
                replace_surrogates(each.study_instance_uid),
                each.tier.value,
                replace_surrogates(each.actor),
                each.at or now,
            )
            for each in orders
        ],
    )


def _orders(connection: Connection, limit: int) -> list[TierOrder]:
    rows = connection.execute(
        "SELECT study_instance_uid, tier, actor, at FROM tier_order "
        "ORDER BY CASE WHEN actor = '' THEN 0 ELSE 1 END, at LIMIT ?",
        (limit,),
    )
    return rows_as(TierOrder, rows, tier=Tier)


def _pins(connection: Connection) -> list[TierPin]:
    rows = connection.execute(
        "SELECT study_instance_uid, tier, actor, reason, at FROM tier_pin ORDER BY at, 1"
    )
    return rows_as(TierPin, rows, tier=Tier)


def _faults(connection: Connection, limit: int) -> list[TierFault]:
    rows = connection.execute(
        "SELECT sop_instance_uid, study_instance_uid, fault, at FROM tier_move "
        "WHERE state = 'failed' ORDER BY at DESC, 1 LIMIT ?",
        (limit,),
    )
    return rows_as(TierFault, rows)


def _usage(connection: Connection) -> list[TierUsage]:
    known = read_statistics(connection)
    instances, size = known.instances, known.size
    found = {
        tier_of(mark): (count, bytes_)
        for mark, count, bytes_ in connection.execute(
            f"SELECT {_MARK}, count(*), sum(i.size) FROM instance i WHERE {_IS_MARKED} GROUP BY 1"
        )
    }
    found[Tier.HOT] = (
        instances - sum(count for count, _ in found.values()),
        size - sum(bytes_ for _, bytes_ in found.values()),
    )
    return [
        TierUsage(tier=tier, instances=found[tier][0], size=found[tier][1])
        for tier in Tier
        if tier in found
    ]


def _tiers_of(
    connection: Connection, level: Level, uids: Sequence[tuple[str, ...]]
) -> list[Collection[Tier]]:
    columns, tables = _LEVELS[level]
    keys = [tuple(uid[-len(columns) :]) for uid in uids]
    conditions = " AND ".join(f"{column} IN {TEXTS}" for column in columns)
    names = ", ".join(columns)
    rows = connection.execute(
        f"SELECT {names}, {_MARK} FROM {tables} WHERE {conditions} AND {_IS_MARKED} "
        f"GROUP BY {names}, {_MARK}",
        [json_list(dict.fromkeys(key[place] for key in keys)) for place in range(len(columns))],
    )
    found: dict[tuple[str, ...], set[Tier]] = {}
    for *key, mark in rows:
        found.setdefault(tuple(key), set()).add(tier_of(mark))
    return [found.get(key, frozenset()) for key in keys]
