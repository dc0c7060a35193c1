"""Upkeep of publications: repositories that are behind are brought up to date.

Events and people say so when a study changes, and a job brings the repository up to date.  Where
that job was given up or refused, where an event was lost, and where settings changed what
manifests say, nobody would come back to it: so each publication that is known to be behind is
tried again for as long as it is, and all others are held against their studies now and then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.errors import StorageError
from isocenter.services.integration.sharing.manifest import ManifestError
from isocenter.services.integration.sharing.manifest_reader import ManifestReader
from isocenter.services.integration.sharing.ports import Publication, PublicationBook
from isocenter.services.integration.sharing.publishing import (
    RETRIES,
    PublishingDesk,
    digest_of,
)
from isocenter.services.notices import WingNotice

log = logging.getLogger("isocenter.sharing")

#: How often it is looked whether anything is due.
LOOK_SECONDS: Final = 60.0
#: Publications that are tried again in one look.
_MOST_DUE: Final = 200
#: Publications that are held against their studies in one look, so that a large archive is not
#: read all the time: 72,000 in a day.
_MOST_COMPARED: Final = 50
#: So often each of them is.
COMPARE_SECONDS: Final = 86_400.0
_UPKEEP: Final = "upkeep of publications"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicationsMeasured(WingNotice):
    """Repositories were compared with what was published: how far they are behind.

    Attributes:
        behind: by repository, how many studies.
        seconds: by repository, for how long the oldest of them.
    """

    behind: Mapping[str, int]
    seconds: Mapping[str, float]


class PublicationUpkeep:
    """Looks after publications; `run` does it as long as the server does, in one process for all.

    Args:
        tell: hears what was measured.
        now: seconds since 1970.
    """

    def __init__(
        self,
        book: PublicationBook,
        reader: ManifestReader,
        desk: PublishingDesk,
        tell: Callable[[PublicationsMeasured], None],
        *,
        now: Callable[[], float],
    ) -> None:
        self._book = book
        self._reader = reader
        self._desk = desk
        self._tell = tell
        self._now = now

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.look()
            except StorageError as error:
                log.error("publications cannot be looked after: %s", error)
            except Exception as error:
                # A fault of ours, and no reason for the server to end; its text may name a patient.
                log.error(
                    "publications cannot be looked after: internal error (%s)", _kind_of(error)
                )
            await trio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Compare some, and do what is due.

        Raises:
            StorageError: it cannot be known.
        """
        before = self._now() - COMPARE_SECONDS
        for known in await self._book.to_compare(before, _MOST_COMPARED):
            await self._compare(known)
        for known in await self._book.due(self._now(), _MOST_DUE):
            await self._try_again(known)
        await self._measure()

    async def _compare(self, known: Publication) -> None:
        name, study = known.repository, known.study_instance_uid
        try:
            differs = await self._differs(known)
        except StorageError:
            raise
        except Exception as error:
            # One study that nobody thought of hides no other; its text may name a patient.
            log.error("study %s cannot be compared: internal error (%s)", study, _kind_of(error))
            differs = False
        if differs:
            log.info("%s: what it has of study %s is not what is here", name, study)
            await self._book.behind(name, study, self._now())
        await self._book.compared(name, study, self._now())

    async def _differs(self, known: Publication) -> bool:
        repository = self._desk.repositories.get(known.repository)
        if repository is None:
            return False  # nobody can do anything about it
        if known.sent_uid:
            return True
        try:
            manifest = (
                await self._reader.read(known.study_instance_uid) if known.is_wanted else None
            )
        except ManifestError:
            return True  # the job says what there is to say
        if manifest is None:
            return bool(known.document_uid)
        if not manifest.authorities.is_anybody_known:
            # The settings say so of every patient: that is no reason to deprecate what stands.
            log.error("sharing.patient_authority is not set: nothing can be published")
            return False
        # Of a large study that takes a while.
        return known.digest != await trio.to_thread.run_sync(digest_of, manifest, repository)

    async def _try_again(self, known: Publication) -> None:
        name, study = known.repository, known.study_instance_uid
        fault = known.fault
        if name not in self._desk.repositories:
            fault = "the settings have no such repository"
        now = self._now()
        # First: a job that is done at once says that there is nothing left.
        await self._book.tried(
            name, study, fault, at=now, next_attempt_at=now + RETRIES.interval(known.attempts + 1)
        )
        # What was asked for and never begun waits for its own job, or somebody has cancelled that,
        # or may not have it done any more: it is not published over their heads.
        was_begun = bool(known.document_uid or known.sent_uid or known.fault)
        if was_begun and name in self._desk.repositories:
            await self._desk.submit(name, study, _UPKEEP)

    async def _measure(self) -> None:
        now, backlog = self._now(), await self._book.backlog()
        names = [*self._desk.repositories]
        self._tell(
            PublicationsMeasured(
                behind={name: backlog.get(name, (0, now))[0] for name in names},
                seconds={name: max(0.0, now - backlog.get(name, (0, now))[1]) for name in names},
            )
        )


def _kind_of(error: Exception) -> str:
    return type(error).__name__
