"""Rejected callers: when, how often, why, and the cure.

``access/rejected.json`` beside the policy.  A process writes what happens at
once, merged with what others wrote.  Bounds: callers in all, and callers from
one address, so that a flood of strangers can push out no one but itself.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson
import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.errors import text_of
from isocenter.services.notices import AssociationRejected, ConnectionRefused, Notice, RefusalReason
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.system.file_lock import directory_lock
from isocenter.services.system.private_files import (
    PRIVATE_FILE,
    make_private_directory,
    match_owner,
    write_file,
)

log = logging.getLogger("isocenter.access")

_FILE: Final = "rejected.json"
#: What an operator can still read through.
MOST_CALLERS: Final = 500
#: A modality tries a few AE titles; whoever tries more guesses.
MOST_OF_ADDRESS: Final = 20
#: Between two writes: whoever looks after a failed try sees it, and a flood of strangers has a
#: twentieth of the disk at most.
_LEAST_REST_SECONDS: Final = 0.1
_REST_FOR_EACH_SECOND: Final = 19.0
_MOST_REST_SECONDS: Final = 5.0
_LONGEST_WHY: Final = 400
_MOST_BYTES: Final = 4 << 20
#: Rejections that mean "later" are no matter of who it is.
_PERMANENT: Final = 1

#: What two rejections of one caller have in common: address, AE titles, certificate.
_Key = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedCaller:
    """A caller that was turned away.

    Attributes:
        address: without port.
        calling_ae_title: empty where it did not come to that.
        certificate: its common name; empty: there was none.
        first, last: as ISO 8601 writes them, in UTC.
        cure: the command that would admit it; empty: *why* says what helps.
    """

    address: str
    calling_ae_title: str
    called_ae_title: str
    certificate: str
    count: int
    first: str
    last: str
    why: str
    cure: str

    @property
    def key(self) -> _Key:
        return self.address, self.calling_ae_title, self.called_ae_title, self.certificate


def merge_rejections(*several: Iterable[RejectedCaller]) -> list[RejectedCaller]:
    """Each caller once, the last one first, within the bounds."""
    by_key: dict[_Key, RejectedCaller] = {}
    for caller in (one for callers in several for one in callers):
        known = by_key.get(caller.key)
        if known is not None:
            latest = max(known, caller, key=lambda one: one.last)
            caller = replace(
                latest,
                count=known.count + caller.count,
                first=min(known.first, caller.first),
            )
        by_key[caller.key] = caller
    callers = sorted(by_key.values(), key=lambda one: one.last, reverse=True)
    of_address: Counter[str] = Counter()
    kept = []
    for caller in callers:
        of_address[caller.address] += 1
        if of_address[caller.address] <= MOST_OF_ADDRESS:
            kept.append(caller)
    # Whoever has a certificate is no stranger, and stays longest.
    kept.sort(key=lambda one: not one.certificate)
    return sorted(kept[:MOST_CALLERS], key=lambda one: one.last, reverse=True)


class RejectedFile:
    """The rejected callers in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / _FILE

    def read(self) -> list[RejectedCaller]:
        """The callers, the last one first.

        Raises:
            PolicyError: the file cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                rows: list[dict[str, Any]] = orjson.loads(file.read(_MOST_BYTES))
            return [RejectedCaller(**row) for row in rows]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise PolicyError(f"{self.path}: {text_of(error)}") from error
        except (ValueError, TypeError) as error:
            raise PolicyError(f"{self.path}: cannot be read; remove it") from error

    def add(self, callers: Iterable[RejectedCaller]) -> None:
        """Write *callers* beside those that are there.

        Raises:
            PolicyError, OSError: it cannot be written.
        """
        make_private_directory(self.folder)
        match_owner(self.folder.parent, self.folder)
        with directory_lock(self.folder):
            self._write(merge_rejections(self.read(), callers))

    def clear(self) -> int:
        """Forget all of them; how many there were."""
        if not self.path.exists():
            return 0
        with directory_lock(self.folder):
            known = self.read()
            self._write([])
        return len(known)

    def _write(self, callers: list[RejectedCaller]) -> None:
        text = orjson.dumps([asdict(one) for one in callers], option=orjson.OPT_INDENT_2)
        write_file(self.path, text, PRIVATE_FILE, replace=True)


class RejectedCallers:
    """Listens to notices, and keeps who was turned away.

    Args:
        file: None: nothing is kept.
    """

    #: Kinds of notices that it listens for.
    hears = (AssociationRejected, ConnectionRefused)

    def __init__(self, file: RejectedFile | None) -> None:
        self._file = file
        self._new: list[RejectedCaller] = []
        self._changed = trio.Event()

    def on_notice(self, notice: Notice) -> None:
        """A listener for `Notices`."""
        if self._file is None:
            return
        match notice:
            case AssociationRejected(caller=caller) if notice.result == _PERMANENT:
                self._add(
                    caller.address,
                    notice.why.partition("; admit it with ")[0] if notice.cure else notice.why,
                    notice.cure,
                    (caller.calling_ae_title, caller.called_ae_title, caller.certificate),
                )
            case ConnectionRefused(
                refusal=RefusalReason.TLS_HANDSHAKE | RefusalReason.WRONG_PROTOCOL
            ):
                self._add(notice.address, notice.detail, "", ("", "", ""))
            case _:
                pass

    def _add(self, address: str, why: str, cure: str, names: tuple[str, str, str]) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        caller = RejectedCaller(
            address=address.rpartition(":")[0].strip("[]") or address,
            calling_ae_title=names[0],
            called_ae_title=names[1],
            certificate=names[2],
            count=1,
            first=now,
            last=now,
            why=why[:_LONGEST_WHY],
            cure=cure,
        )
        self._new.append(caller)
        if len(self._new) > 2 * MOST_CALLERS:
            self._new = merge_rejections(self._new)
        self._changed.set()

    async def run(self) -> None:
        """Write what was heard at once, and at the end."""
        if self._file is None:
            return
        try:
            while True:
                await self._changed.wait()
                began = trio.current_time()
                await self._write()
                rest = _REST_FOR_EACH_SECOND * (trio.current_time() - began)
                await trio.sleep(min(max(rest, _LEAST_REST_SECONDS), _MOST_REST_SECONDS))
        finally:
            with trio.CancelScope(shield=True):
                await self._write()

    async def _write(self) -> None:
        self._changed = trio.Event()
        new, self._new = self._new, []
        if not new or self._file is None:
            return
        try:
            await trio.to_thread.run_sync(self._file.add, new)
        except (PolicyError, OSError) as error:
            log.error("rejected callers are not kept: %s", error)
