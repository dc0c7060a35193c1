"""Permission of whoever asked for a job, asked again while it goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from isocenter.services.notices import AccessDenied, Caller, Notices
from isocenter.services.security.access.permissions import (
    ALL_PERMISSIONS,
    Action,
    Permissions,
    Resource,
    permission_texts,
    union,
    without,
)
from isocenter.services.security.access.policy import Policy
from isocenter.services.security.access.ports import ApiToken
from isocenter.services.workflow.jobs.asker import Asker
from isocenter.services.workflow.jobs.job import Job, JobKind

_STUDY_OUT: Final[Permissions] = {Resource.STUDY: Action.READ | Action.EXPORT}
_STUDY_IN: Final[Permissions] = {Resource.STUDY: Action.WRITE}
_SYSTEM: Final[Permissions] = {Resource.SYSTEM: Action.WRITE}
#: What whoever asks for a job has to be allowed, as the routes want it by which one asks.
NEEDS_OF: Final[Mapping[JobKind, Permissions]] = {
    JobKind.RETRIEVE: _STUDY_IN,
    JobKind.FETCH: _STUDY_IN,
    JobKind.SEND: _STUDY_OUT,
    JobKind.VERIFY: _SYSTEM,
    JobKind.EXPORT: _STUDY_OUT,
    JobKind.IMPORT: _SYSTEM,
    JobKind.COMPRESS: _SYSTEM,
    JobKind.QUERY: {Resource.METADATA: Action.READ},
    JobKind.PUBLISH: _STUDY_OUT,
    JobKind.ANALYSE: _STUDY_OUT,
}


class JobPermission:
    """Looks whether jobs may go on.

    Args:
        policy: as it is now.
        enforces: whether it decides what application entities may do (access.enforce).
        token_of: an API token by its ID, as it is now; None: it is not believed any more.
        notices: told of each job that may not.
    """

    def __init__(
        self,
        policy: Callable[[], Policy],
        enforces: Callable[[Policy], bool],
        token_of: Callable[[str], Awaitable[ApiToken | None]],
        notices: Notices,
    ) -> None:
        self._policy = policy
        self._enforces = enforces
        self._token_of = token_of
        self._notices = notices

    async def why_not(self, job: Job) -> str:
        """Why a job may not go on; empty: it may.

        Raises:
            StorageError: that cannot be known now.
        """
        asker = job.request.asker
        if asker is None:
            return ""
        allowed = await self._allowed(asker)
        if isinstance(allowed, str):
            return f"{job.request.requested_by} asked for it, and {allowed}"
        lacking = without(NEEDS_OF[job.request.kind], allowed)
        if not lacking:
            return ""
        words = " ".join(permission_texts(lacking))
        return f"{job.request.requested_by} asked for it, and lacks {words} by now"

    def tell(self, job: Job, why: str) -> None:
        """The audit trail hears of a job that may not go on."""
        caller = Caller(association=f"job-{job.job_id}", address="", user=job.request.requested_by)
        command = f"job {job.job_id} ({job.request.kind.value})"
        self._notices.publish(
            AccessDenied(caller=caller, command=command, sop_class_uid="", why=why)
        )

    async def _allowed(self, asker: Asker) -> Permissions | str:
        """What the asker may do; or why nothing any more."""
        policy = self._policy()
        user, roles = asker.user, asker.roles
        if asker.token_id:
            token = await self._token_of(asker.token_id)
            if token is None:
                return "the API token was withdrawn or has expired"
            user, roles = token.user, tuple(token.roles)
        if user:
            found = policy.user(user)
            if found is None or not found.active:
                return "is no active user any more"
            return policy.permissions(None, found)
        if asker.ae_titles:
            if not self._enforces(policy):
                return ALL_PERMISSIONS
            entities = [
                entity
                for entity in policy.entities
                if policy.is_admitted(entity) and entity.ae_title in asker.ae_titles
            ]
            if not entities:
                return "may not call any more as the AE that it was"
            return union(policy.permissions(entity, None) for entity in entities)
        known = policy.all_roles
        return union(known[name] for name in roles if name in known)
