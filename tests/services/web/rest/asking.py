"""Requests to the API that tests make, as a program with a certificate."""

from __future__ import annotations

from typing import Any

import httpx

from services.web.signed_in import Site

#: Whoever shows a certificate may do everything while the policy has no application entities.
AS_PROGRAM = {"x-certificate": "program"}


async def ask(
    site: Site, method: str, path: str, body: Any = None, **headers: str
) -> httpx.Response:
    """Ask for a path below ``/api/v1``; names of headers with ``_`` for ``-``."""
    said = {**AS_PROGRAM, **{name.replace("_", "-"): value for name, value in headers.items()}}
    if "authorization" in said or "cookie" in said:
        del said["x-certificate"]
    return await site.client.request(method, f"/api/v1{path}", json=body, headers=said)


async def refused(
    site: Site, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, str]:
    """Status and code of a request that is refused."""
    answer = await ask(site, method, path, body, **headers)
    assert answer.status_code >= 400, answer.text
    problem = answer.json()
    assert problem["status"] == answer.status_code
    return answer.status_code, problem["code"]
