"""Remote nodes in the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from isocenter.services.workflow.nodes.node import Node, NodeState
from isocenter.services.workflow.nodes.ports import NodeCheck
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.rows import rows_as
from isocenter.storage.database.text import replace_surrogates

_FAULT_LENGTH: Final = 500
_COLUMNS: Final = (
    "name, address, tls, verify_host, token_file, ca_file, is_enabled, version, state, "
    "checked_at, fault, response_seconds, failures"
)
_ADD: Final = """
    INSERT INTO remote_node (name, address, tls, verify_host, token_file, ca_file, is_enabled,
                             version, state, fault, failures)
    VALUES (:name, :address, :tls, :verify_host, :token_file, :ca_file, :is_enabled,
            1, 'unknown', '', 0)
    ON CONFLICT (name) DO NOTHING
"""
_UPDATE: Final = """
    UPDATE remote_node SET address = :address, tls = :tls, verify_host = :verify_host,
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


class DatabaseNodes:
    """See `isocenter.services.workflow.nodes.ports.NodeBook`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, node: Node) -> bool:
        """See `NodeBook.add`."""
        return await self._database.write(_change, _ADD, _values(node))

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
        return await self._database.write(_change, _UPDATE, _values(node))

    async def remove(self, name: str) -> bool:
        """See `NodeBook.remove`."""
        return await self._database.write(
            _change, "DELETE FROM remote_node WHERE name = ?", (replace_surrogates(name),)
        )

    async def note_check(self, node: Node, check: NodeCheck) -> bool:
        """See `NodeBook.note_check`."""
        return await self._database.write(_note_check, node, check)


def _note_check(connection: Connection, node: Node, check: NodeCheck) -> bool:
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
    return bool(before[0] != check.state.value)


def _values(node: Node) -> dict[str, Any]:
    return {
        "name": replace_surrogates(node.name),
        "address": replace_surrogates(node.address),
        "tls": int(node.tls),
        "verify_host": int(node.verify_host),
        "token_file": replace_surrogates(node.token_file),
        "ca_file": replace_surrogates(node.ca_file),
        "is_enabled": int(node.is_enabled),
        "version": node.version,
    }


def _change(connection: Connection, statement: str, values: Any) -> bool:
    return bool(connection.execute(statement, values).rowcount)


def _nodes(connection: Connection, statement: str, values: tuple[object, ...]) -> list[Node]:
    rows = connection.execute(statement, values)
    return rows_as(Node, rows, tls=bool, verify_host=bool, is_enabled=bool, state=NodeState)
