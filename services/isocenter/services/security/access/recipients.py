"""Recipients of de-identified objects: which project, if any, a caller belongs to.

The one place that decides it, for associations and for the web: by role of the policy, by AE title
that it calls itself or that its certificate was issued to, and by network.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from isocenter.services.archive.deidentification.project import Project
from isocenter.services.net.addresses import is_within
from isocenter.services.net.peer_identity import PeerIdentity

#: In the place of a project's name: it belongs to more than one, so it is given nothing at all.
SEVERAL: Final = "(several)"


class Recipients:
    """Callers that are given de-identified objects only.

    Args:
        projects: of de-identification, with whom they are for.
    """

    def __init__(self, projects: Iterable[Project] = ()) -> None:
        self._projects = [
            project
            for project in projects
            if project.destinations or project.roles or project.addresses
        ]
        self._titles = {
            title.casefold().rstrip("."): project.name
            for project in self._projects
            for title in project.destinations
        }
        self._roles = {role: project.name for project in self._projects for role in project.roles}

    def __bool__(self) -> bool:
        return bool(self._projects)

    def project_of(
        self,
        *,
        titles: Iterable[str] = (),
        identity: PeerIdentity | None = None,
        host: str = "",
        roles: Iterable[str] = (),
    ) -> str:
        """Its project; empty: it is given objects as they are; `SEVERAL`: nothing.

        Args:
            titles: AE titles that it calls itself, or may.
            identity: of its certificate.
            host: the address that it calls from.
            roles: of the policy, of itself and of its user.
        """
        if not self._projects:
            return ""
        names = [*titles]
        if identity is not None:
            names += [identity.common_name or "", *identity.subject_alternative_names]
        found = {self._titles.get(name.strip(" ").casefold().rstrip("."), "") for name in names}
        found |= {self._roles.get(role, "") for role in roles}
        found |= {project.name for project in self._projects if is_within(host, project.networks)}
        found.discard("")
        if len(found) > 1:
            return SEVERAL
        return next(iter(found), "")
