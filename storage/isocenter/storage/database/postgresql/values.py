"""Values of SQLite's few types as PostgreSQL holds and gives them.

PostgreSQL has no text with U+0000, which data sets of others may have.  U+0000 is kept as
U+0001 U+0001, and U+0001 as U+0001 U+0002: no two texts become the same, and their order stays.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import adapt, postgres
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import AdaptersMap
from psycopg.types.numeric import Int8Dumper
from psycopg.types.string import StrDumperUnknown


def escape(text: str) -> str:
    """*text* without U+0000."""
    if "\0" not in text and "\1" not in text:
        return text
    return text.replace("\1", "\1\2").replace("\0", "\1\1")


def unescape(text: str) -> str:
    """What `escape` was given."""
    return text.replace("\1\1", "\0").replace("\1\2", "\1") if "\1" in text else text


class _TextDumper(StrDumperUnknown):
    def __init__(self, cls: type, context: AdaptContext | None = None) -> None:
        super().__init__(cls, context)
        codec = "utf-8" if self.connection is None else self.connection.info.encoding
        self._codec = "utf-8" if codec == "ascii" else codec

    def dump(self, obj: str) -> Any:
        # Texts are most of the values of a statement: as few calls for each as can be.
        if "\0" in obj or "\1" in obj:
            obj = escape(obj)
        return obj.encode(self._codec)


class _TextLoader(adapt.Loader):
    def load(self, data: Buffer) -> str:
        return unescape(str(data, "utf-8"))


class _BoolDumper(adapt.Dumper):
    """SQLite has no truth values but 0 and 1, and the tables are made for both."""

    oid = postgres.types["int8"].oid

    def dump(self, obj: bool) -> bytes:
        return b"1" if obj else b"0"


class _BoolLoader(adapt.Loader):
    def load(self, data: Buffer) -> int:
        return int(bytes(data) == b"t")


class _NumericLoader(adapt.Loader):
    """The sum of whole numbers is one."""

    def load(self, data: Buffer) -> int | float:
        text = str(data, "ascii")
        return int(text) if text.lstrip("-").isdigit() else float(text)


def adapters() -> AdaptersMap:
    """How values go to PostgreSQL and come back."""
    adapted = AdaptersMap(psycopg.adapters)
    adapted.register_dumper(str, _TextDumper)
    # Of one width, so that a statement is prepared once.
    adapted.register_dumper(int, Int8Dumper)
    adapted.register_dumper(bool, _BoolDumper)
    for name in ("text", "varchar", "name"):
        adapted.register_loader(name, _TextLoader)
    adapted.register_loader("bool", _BoolLoader)
    adapted.register_loader("numeric", _NumericLoader)
    return adapted
