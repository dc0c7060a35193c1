"""PostgreSQL driver of the database layer; needs the extra ``postgres``."""

from __future__ import annotations

from typing import Final

#: Says whoever cannot import the rest.
NEEDS_PSYCOPG: Final = (
    "database.url names PostgreSQL, which needs psycopg: pip install 'isocenter[postgres]'"
)
