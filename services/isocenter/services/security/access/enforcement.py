"""Enforcement of the policy: from its first entry on, always, or never."""

from __future__ import annotations

from enum import Enum


class Enforcement(Enum):
    """When the policy decides who may associate, and for what."""

    #: From the first application entity on.
    AUTO = "auto"
    #: Also while there is no application entity: then nobody may associate.
    ALWAYS = "always"
    #: The settings alone decide, whatever the policy says of application entities.
    NEVER = "never"

    def holds(self, has_entities: bool) -> bool:
        """Whether the policy decides.

        Args:
            has_entities: there is an application entity in it.
        """
        return self is Enforcement.ALWAYS or (self is Enforcement.AUTO and has_entities)
