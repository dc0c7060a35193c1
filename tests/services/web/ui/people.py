"""People with all kinds of permissions, and what they do on pages."""

from __future__ import annotations

from dataclasses import replace

import httpx

from isocenter.services.security.access.permissions import ROLES
from isocenter.services.web.forms import CONTENT_TYPE
from isocenter.services.web.principal import NEEDS
from services.archive_support import STUDY
from services.web.signed_in import ALICE, Site

#: One that has nothing but what some routes need, for each such need.
ONLY = {f"only-{need}": permissions for need, permissions in NEEDS.items() if permissions}
GIVEN = {**ROLES, **ONLY}
WHO = {role: replace(ALICE, name=f"a-{role.lower()}", roles=(role,)) for role in GIVEN}
#: What stands in the paths of pages.
PLACES = {
    "study": STUDY, "series": "1.2", "instance": "1.2", "deletion": "0", "association": "0",
    "quarantine": "0", "number": "0", "note": "0", "node": "0", "job": "0", "rule": "0",
    "task": "0", "conflict": "0", "user": "a-nobody", "session": "0", "token": "0",
    "key": "web.pages", "service": "0", "callback": "0",
}  # fmt: skip
NOBODY = replace(ALICE, name="a-nobody", roles=())


async def post(site: Site, cookie: dict[str, str], path: str, **fields: str) -> httpx.Response:
    """What a form sends; afterwards the policy is that of now."""
    headers = {**cookie, "origin": site.root, "content-type": CONTENT_TYPE}
    answer = await site.client.post(path, data=fields, headers=headers)
    site.access.refresh()
    return answer


async def text_of(site: Site, cookie: dict[str, str], path: str) -> str:
    answer = await site.client.get(path, headers=cookie)
    assert answer.status_code == 200, answer.text
    return answer.text
