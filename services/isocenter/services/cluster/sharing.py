"""Sharing: texts of the data directory that are the same on all nodes.

The database has each with a number.  A node looks often: what has a higher number there, it
writes into its data directory; what somebody has changed here, it brings there.  So the files are
what programs read and change, on any node, as on a server that is alone.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import orjson
import trio

from isocenter.services.cluster.ports import Document, SharedDocuments
from isocenter.services.errors import StorageError, text_of
from isocenter.services.system.file_lock import directory_lock
from isocenter.services.system.private_files import (
    PRIVATE_FILE,
    make_private_directory,
    match_owner,
    write_file,
)

_log = logging.getLogger("isocenter.cluster")

LOOK_SECONDS: Final = 1.0
#: In the data directory: what of each text was seen last.
_SEEN: Final = "shared.json"


class SharedText(Protocol):
    """A text of the data directory; its methods block, and raise `OSError`."""

    @property
    def name(self) -> str: ...

    @property
    def is_joined(self) -> bool:
        """Whether what comes is joined with what is here, so that nothing is set aside."""
        ...

    def read(self) -> str:
        """What it says now; empty: there is none."""
        ...

    def write(self, content: str, *, instead_of: str) -> bool:
        """Have it say *content*; False: it says something else by now than what is given."""
        ...


class SharedFile:
    """A file that is shared as a whole; whoever changes it has the lock of its folder."""

    is_joined = False

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path

    def read(self) -> str:
        """See `SharedText.read`."""
        try:
            return self._path.read_text("utf-8")
        except FileNotFoundError:
            return ""

    def write(self, content: str, *, instead_of: str) -> bool:
        """See `SharedText.write`."""
        folder = self._path.parent
        make_private_directory(folder)
        match_owner(folder.parent, folder)
        with directory_lock(folder):
            if self.read() != instead_of:
                return False
            write_file(self._path, content.encode(), PRIVATE_FILE, replace=True)
        return True


class Sharing:
    """Keeps texts of a data directory the same as those of the other nodes.

    Args:
        folder: the data directory.
    """

    def __init__(
        self, documents: SharedDocuments, texts: Sequence[SharedText], folder: Path
    ) -> None:
        self._documents = documents
        self._texts = texts
        self._folder = folder

    async def run(self, on_change: Callable[[str], Awaitable[None]]) -> None:
        """Look again and again, until cancelled; *on_change* is told which text came from
        another node."""
        while True:
            came: list[str] = []
            try:
                try:
                    await self._look(came)
                finally:
                    for name in came:
                        await on_change(name)
            except StorageError as error:
                _log.warning("what other nodes have changed is not known: %s", error)
            except Exception as error:
                _log.error(
                    "what other nodes have changed cannot be taken over (%s)", type(error).__name__
                )
            await trio.sleep(LOOK_SECONDS)

    async def look(self) -> Sequence[str]:
        """Bring both sides together; the names of texts that came from another node.

        Raises:
            StorageError: the database does not answer, or a file cannot be read or written.
        """
        came: list[str] = []
        await self._look(came)
        return came

    async def _look(self, came: list[str]) -> None:
        """As `look`; of several texts one that cannot be kept holds up no other."""
        failure: Exception | None = None
        versions = await self._documents.versions()
        try:
            seen = await trio.to_thread.run_sync(self._read_seen)
        except OSError as error:
            raise _not_kept(error) from error
        for text in self._texts:
            try:
                if await self._bring(text, versions.get(text.name, 0), seen):
                    came.append(text.name)
            except (OSError, UnicodeDecodeError) as error:
                failure = failure or _not_kept(error)
            except StorageError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    async def _bring(self, text: SharedText, version: int, seen: dict[str, Any]) -> bool:
        """Whether another node's came."""
        here = await trio.to_thread.run_sync(text.read)
        seen_version, seen_digest = seen.get(text.name, (0, _digest("")))
        is_gone = not here and version > 0
        if version not in (0, seen_version) or is_gone:
            there = await self._documents.get(text.name)
            expected = (seen_digest, _digest(there.content), _digest(""))
            if not text.is_joined and _digest(here) not in expected:
                await trio.to_thread.run_sync(self._set_aside, text.name, here)
            if here != there.content and not await trio.to_thread.run_sync(
                lambda: text.write(there.content, instead_of=here)
            ):
                return False  # the next look knows more
            await self._note(seen, there)
            return here != there.content
        if _digest(here) != seen_digest or (here and version == 0):
            mine = Document(name=text.name, version=version, content=here)
            if await self._documents.put(mine):
                _log.info("%s: what was changed here is brought to the other nodes", text.name)
                kept = Document(name=text.name, version=version + 1, content=here)
                await self._note(seen, kept)
        return False

    def _set_aside(self, name: str, content: str) -> None:
        """Two nodes had changed it at the same time."""
        path = self._folder / f"{name}.not-shared"
        write_file(path, content.encode(), PRIVATE_FILE, replace=True)
        _log.error(
            "%s: it was changed on another node at the same time; what was changed here is in %s",
            name,
            path,
        )

    async def _note(self, seen: dict[str, Any], document: Document) -> None:
        seen[document.name] = (document.version, _digest(document.content))
        await trio.to_thread.run_sync(
            lambda: write_file(self._folder / _SEEN, orjson.dumps(seen), PRIVATE_FILE, replace=True)
        )

    def _read_seen(self) -> dict[str, Any]:
        try:
            found = orjson.loads((self._folder / _SEEN).read_bytes())
            return {str(name): (int(one[0]), str(one[1])) for name, one in found.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, AttributeError, LookupError):
            return {}  # it is damaged: then what the database has counts


def _not_kept(error: OSError | UnicodeDecodeError) -> StorageError:
    return StorageError(f"what nodes share cannot be kept: {text_of(error)}")


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()
