"""Remote nodes in the database."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Final

from isocenter.services.workflow.events.event import NodeChanged
from isocenter.services.workflow.nodes.node import Node, NodeState
from isocenter.services.workflow.nodes.ports import NodeCheck, TokenElsewhereError
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.rows import rows_as
from isocenter.storage.database.text import replace_surrogates

_FAULT_LENGTH: Final = 500
_COLUMNS: Final = (
    "name, address, tls, verify_host, server_name, token_file, ca_file, is_enabled, version, "
    "state, checked_at, fault, response_seconds, failures"
)
_ADD: Final = """
    INSERT INTO remote_node (name, address, tls, verify_host, server_name, token_file, ca_file,
                             is_enabled, version, state, fault, failures)
    VALUES (:name, :address, :tls, :verify_host, :server_name, :token_file, :ca_file,
            :is_enabled, 1, 'unknown', '', 0)
    ON CONFLICT (name) DO NOTHING
"""
_UPDATE: Final = """
    UPDATE remote_node SET address = :address, tls = :tls, verify_host = :verify_host,
        server_name = :server_name,
        token_file = :token_file, ca_file = :ca_file, is_enabled = :is_enabled,
        version = version + 1,
        state = 'unknown', checked_at = NULL, fault = '', response_seconds = NULL, failures = 0
    WHERE name = :name AND version = :version
"""
_CHECKED: Final = """
    UPDATE remote_node SET state = :state, checked_at = :at, fault = :fault,
        response_seconds = :seconds,
        failures = CASE WHEN :state = 'online' THEN 0 ELSE failures + 1 END
    WHERE name = :name AND version = :version
"""


#: Called in the transaction in which a node is found to answer, or to answer no more.
ChangeHook = Callable[[Connection, NodeChanged], None]


class DatabaseNodes:
    """See `isocenter.services.workflow.nodes.ports.NodeBook`."""

    def __init__(self, database: Database, *, on_change: Sequence[ChangeHook] = ()) -> None:
        self._database = database
        self._on_change = on_change

    async def add(self, node: Node, *, moves_token: bool = False) -> bool:
        """See `NodeBook.add`."""
        return await self._database.write(_add, node, moves_token)

    async def get(self, name: str) -> Node | None:
        """See `NodeBook.get`."""
        found = await self._database.read(
            _nodes,
            f"SELECT {_COLUMNS} FROM remote_node WHERE name = ?",  # noqa: S608 - constants
            (replace_surrogates(name),),
        )
        return found[0] if found else None

    async def all(self) -> Sequence[Node]:
        """See `NodeBook.all`."""
        return await self._database.read(
            _nodes,
            f"SELECT {_COLUMNS} FROM remote_node ORDER BY name",  # noqa: S608 - constants
            (),
        )

    async def update(self, node: Node) -> bool:
        """See `NodeBook.update`."""
        return await self._database.write(_update, node)

    async def remove(self, name: str) -> bool:
        """See `NodeBook.remove`."""
        return await self._database.write(_remove, replace_surrogates(name))

    async def note_check(self, node: Node, check: NodeCheck) -> bool:
        """See `NodeBook.note_check`."""
        return await self._database.write(_note_check, node, check, self._on_change)


def _note_check(
    connection: Connection, node: Node, check: NodeCheck, on_change: Sequence[ChangeHook]
) -> bool:
    values = {
        "name": replace_surrogates(node.name),
        "version": node.version,
        "state": check.state.value,
        "at": check.at,
        "fault": replace_surrogates(check.fault)[:_FAULT_LENGTH],
        "seconds": check.response_seconds,
    }
    before = connection.execute(
        "SELECT state FROM remote_node WHERE name = :name AND version = :version", values
    ).fetchone()
    if before is None:
        return False
    connection.execute(_CHECKED, values)
    if before[0] == check.state.value:
        return False
    changed = NodeChanged(node=node.name, state=check.state.value, why=check.fault[:_FAULT_LENGTH])
    for hook in on_change:
        hook(connection, changed)
    return True


def _values(node: Node) -> dict[str, Any]:
    return {
        "name": replace_surrogates(node.name),
        "address": replace_surrogates(node.address),
        "tls": int(node.tls),
        "verify_host": int(node.verify_host),
        "server_name": replace_surrogates(node.server_name),
        "token_file": replace_surrogates(node.token_file),
        "ca_file": replace_surrogates(node.ca_file),
        "is_enabled": int(node.is_enabled),
        "version": node.version,
    }


def _add(connection: Connection, node: Node, moves_token: bool) -> bool:
    _bind_tokens(connection)
    if not connection.execute(_ADD, _values(node)).rowcount:
        return False
    _bind_tokens(connection)
    if moves_token:
        connection.executemany(
            "UPDATE token_place SET origin = ? WHERE token_file = ?",
            [(node.origin, place) for place in _places_of(node)],
        )
    _check_token(connection, node)
    return True


def _update(connection: Connection, node: Node) -> bool:
    _bind_tokens(connection)
    if not connection.execute(_UPDATE, _values(node)).rowcount:
        return False
    _bind_tokens(connection)
    _check_token(connection, node)
    return True


def _remove(connection: Connection, name: str) -> bool:
    _bind_tokens(connection)
    return bool(connection.execute("DELETE FROM remote_node WHERE name = ?", (name,)).rowcount)


def _bind_tokens(connection: Connection) -> None:
    """Note where tokens are sent of which that was not noted; who named them first is first."""
    nodes = _nodes(
        connection,
        f"SELECT {_COLUMNS} FROM remote_node WHERE token_file <> '' ORDER BY name",  # noqa: S608
        (),
    )
    connection.executemany(
        "INSERT INTO token_place (token_file, origin) VALUES (?, ?) "
        "ON CONFLICT (token_file) DO NOTHING",
        [(place, node.origin) for node in nodes for place in _places_of(node)],
    )


def _check_token(connection: Connection, node: Node) -> None:
    for place in _places_of(node):
        (origin,) = connection.execute(
            "SELECT origin FROM token_place WHERE token_file = ?", (place,)
        ).fetchone()
        if origin != node.origin:
            raise TokenElsewhereError(origin)


def _places_of(node: Node) -> Sequence[str]:
    """The file of its token, by what it is called and by what it is on this machine."""
    if not node.token_file:
        return ()
    named = os.path.normpath(node.token_file)
    return tuple({replace_surrogates(named), replace_surrogates(os.path.realpath(named))})


def _nodes(connection: Connection, statement: str, values: tuple[object, ...]) -> list[Node]:
    rows = connection.execute(statement, values)
    return rows_as(Node, rows, tls=bool, verify_host=bool, is_enabled=bool, state=NodeState)
