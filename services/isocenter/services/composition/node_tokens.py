"""Tokens that are shown to remote nodes, read from the files that nodes name."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Final

from isocenter.services.errors import text_of
from isocenter.services.settings.plugins import PluginEntry
from isocenter.services.settings.settings import SETTINGS, Settings
from isocenter.services.workflow.nodes.node import Node
from isocenter.services.workflow.nodes.ports import NodeError

_MOST_BYTES: Final = 8_192
#: What can stand in ``Authorization: Bearer`` (RFC 6750 2.1).
_TOKEN: Final = re.compile(rb"[A-Za-z0-9._~+/-]+=*")


def token_of(node: Node, settings: Settings) -> str:
    """The token of a node; empty: it has none.

    Whoever may set up nodes names the file, and the server sends what is in it to an address that
    they name, too: so it is no secret of this archive, and nothing else than a token.

    Raises:
        NodeError: it cannot be read, or may not be shown.
    """
    if not node.token_file:
        return ""
    path = Path(node.token_file)
    fault = f"the token of node {node.name!r} cannot be used: {path}"
    try:
        place = path.resolve()
        if any(place == one or one in place.parents for one in _secrets(settings)):
            raise NodeError(f"{fault} belongs to this archive; keep it in a file of its own")
        content = _content(place)
    except (OSError, ValueError, RuntimeError) as error:
        what = text_of(error) if isinstance(error, OSError) else "no name of a file"
        raise NodeError(f"{fault}: {what}") from error
    if content is None or _TOKEN.fullmatch(content) is None:
        raise NodeError(f"{fault} holds no token: one line of letters, digits and . _ ~ + / - =")
    return content.decode("ascii")


def _secrets(settings: Settings) -> Iterator[Path]:
    """The data directory, and all files and folders that settings name."""
    if not settings.storage.is_in_memory:
        yield Path(settings.storage.data_dir).resolve()
    for setting in SETTINGS:
        section, _, name = setting.key.partition(".")
        value = getattr(settings, section)
        for path in _paths_in(getattr(value, name) if name else value):
            yield path.resolve()


def _paths_in(value: object) -> Iterator[Path]:
    """Those of a setting, and of the tables that it may hold, whatever they are about."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _paths_in(item)
    elif isinstance(value, PluginEntry):
        # Only the plug-in knows which of its texts name files, in the folder of the settings.
        for _, given in value.given:
            for text in given if isinstance(given, tuple) else (given,):
                path = (value.folder or Path()) / text if isinstance(text, str) else None
                if path is not None and path.is_file():
                    yield path
    elif is_dataclass(value):
        for each in fields(value):
            yield from _paths_in(getattr(value, each.name))


def _content(path: Path) -> bytes | None:
    """Of a file; None: it is none, or longer than a token.  A pipe is not waited for."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        content = file.read(_MOST_BYTES + 1)
    return None if len(content) > _MOST_BYTES else content.strip()
