"""Section of the database."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from isocenter.engine.fast_init import dataclass
from isocenter.services.settings import value_types as kinds
from isocenter.services.settings.field import setting

ALLOWED: Final = "postgresql://USER@HOST:PORT/DATABASE"
_NO_URL: Final = ""
_BEGINNINGS: Final = ("postgresql://", "postgres://")
_SECRET: Final = re.compile("password$")


class DatabaseUrlKind:
    """The URL of a database, without secrets."""

    names_place = True

    @property
    def allowed(self) -> str:
        return f"{ALLOWED}, or nothing"

    def from_toml(self, value: object) -> str:
        """A URL, or nothing."""
        if not isinstance(value, str):
            raise TypeError
        return self.from_text(value)

    def from_text(self, text: str) -> str:
        """A URL, or nothing; its errors show no value that could be a secret."""
        if text == _NO_URL:
            return text
        try:
            url = urlsplit(text)
            names = [name for name, _ in parse_qsl(url.query, strict_parsing=bool(url.query))]
        except ValueError:
            raise kinds.InvalidValueError(f"is no URL such as {ALLOWED}") from None
        if not text.startswith(_BEGINNINGS):  # as libpq wants it
            raise kinds.InvalidValueError(f"must begin with postgresql:// ({ALLOWED})")
        if ":" in url.netloc.rpartition("@")[0] or any(map(_SECRET.search, names)):
            raise kinds.InvalidValueError(
                "a password does not belong into the URL: put it into a password file (~/.pgpass, "
                "or the one that the variable PGPASSFILE or the parameter passfile names)"
            )
        if not url.path.strip("/"):
            raise kinds.InvalidValueError(f"the name of the database is missing ({ALLOWED})")
        return text

    def to_toml(self, value: object) -> str:
        """Quoted."""
        return kinds.toml_string(str(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSettings:
    """Where the index, the worklist and all queues are kept, if not in the data directory."""

    url: str = setting(
        _NO_URL,
        DatabaseUrlKind(),
        f"PostgreSQL database in the place of the file index.db: {ALLOWED}, and parameters of "
        "libpq behind a question mark (nothing: the file in the data directory)",
        "--database",
        "URL",
    )
