"""UIDs of studies, series and instances: checks, and new ones (PS3.5 9.1, B.2)."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from isocenter.engine.dimse.message_codec import CStoreRequest, Request, sop_instance_of
from isocenter.engine.uid import is_safe_uid

#: The longest UID (PS3.5 9.1).
MAX_UID_LENGTH: Final = 64
#: Printable ASCII without spaces around it, without what parts a path, a list of values, or is a
#: wild card of a query.
_SAFE: Final = re.compile(r"[!-)+-.0-\>@-\[\]-~](?:[ -)+-.0-\>@-\[\]-~]*[!-)+-.0-\>@-\[\]-~])?")
_FOLDERS: Final = frozenset({".", ".."})


class UidRule(Enum):
    """What may be the UID of a study, a series or an instance.

    SOP classes and transfer syntaxes are negotiated: there the rule is always the strict one.
    """

    #: Numbers with dots between them, up to 64 characters; a number may begin with zeros.
    STRICT = "strict"
    #: Whatever can be a name without harm: up to 64 characters of ASCII that can be printed, other
    #: than ``/ \\ * ?``, without spaces around it, and not ``.`` or ``..``.
    SAFE = "safe"

    def allows(self, uid: str) -> bool:
        """Whether *uid* is taken."""
        if is_safe_uid(uid):
            return True
        return (
            self is UidRule.SAFE
            and len(uid) <= MAX_UID_LENGTH
            and uid not in _FOLDERS
            and _SAFE.fullmatch(uid) is not None
        )


def new_uid() -> str:
    """A UID that nobody else has, made of a random UUID."""
    from uuid import uuid4

    return f"2.25.{uuid4().int}"


def names_an_instance(request: Request) -> bool:
    """Whether the SOP Instance UID of a command, where it has one, can be a name without harm.

    What a service makes of it (a file, a line, a key) is not known here: the rule is `SAFE`.
    Only a C-STORE cannot do without one.
    """
    uid = sop_instance_of(request)
    if not uid:
        return not isinstance(request, CStoreRequest)
    return is_safe_uid(uid) or UidRule.SAFE.allows(uid)
