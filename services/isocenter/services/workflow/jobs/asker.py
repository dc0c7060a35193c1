"""Person or program that asked for a job, as the access policy knows them."""

from __future__ import annotations

import json

from isocenter.engine.fast_init import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Person or program that asked for a job; the permission is looked at again while it goes on.

    Attributes:
        user: of the policy.
        token_id: of the API token that was shown.
        roles: that a provider of identities gave, to nobody whom the policy names.
        ae_titles: as which the certificate that was shown may call.
    """

    user: str = ""
    token_id: str = ""
    roles: tuple[str, ...] = ()
    ae_titles: tuple[str, ...] = ()

    def as_text(self) -> str:
        """What `asker_of_text` makes the same of."""
        return json.dumps(
            {
                "user": self.user,
                "token_id": self.token_id,
                "roles": self.roles,
                "ae_titles": self.ae_titles,
            }
        )


def asker_of_text(text: str) -> Asker | None:
    """None: nobody whom the policy knows: a program on this machine, or a part of the server."""
    if not text:
        return None
    said = json.loads(text)
    return Asker(
        user=said["user"],
        token_id=said["token_id"],
        roles=tuple(said["roles"]),
        ae_titles=tuple(said["ae_titles"]),
    )
