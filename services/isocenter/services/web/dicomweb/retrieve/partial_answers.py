"""Answers of which a part is gone (PS3.18 10.4.3.1): 206 and a Warning."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.reading import ReadableArchive
from isocenter.services.net.http.messages import HttpError, Response

log = logging.getLogger("isocenter.http")

_OK = 200


async def still_there(
    archive: ReadableArchive, named: Sequence[StoredInstance]
) -> list[StoredInstance]:
    """Those that can be had, as they are now.

    Raises:
        HttpError: there is none (410).
        StorageError: nobody can tell.
    """
    missing = await archive.store.missing([one.object_key for one in named])
    if not missing:
        return list(named)
    lost = [one.sop_instance_uid for one in named if one.object_key in missing]
    now = await archive.index.get(lost)  # some may have been made anew since
    again = {uid: one for uid, one in now.items() if one.object_key not in missing}
    instances = [
        again.get(one.sop_instance_uid) if one.object_key in missing else one for one in named
    ]
    there = [one for one in instances if one is not None]
    for uid in lost:
        if uid in now and uid not in again:
            log.warning("instance %s is in the index, and its file is gone", uid)
    if not there:
        raise HttpError(410, "GONE", "what it names is not there any more")
    return there


def with_warning(response: Response, gone: int, named: int, base: str) -> Response:
    """*response*, which has all but *gone* of the instances that were named.

    Args:
        base: the URL of the service.
    """
    if not gone or response.status != _OK:
        return response
    warning = ("warning", f'299 {base} "{gone} of {named} instances are gone"')
    return Response(
        status=206,
        headers=[*response.headers, warning],
        body=response.body,
        length=response.length,
        close=response.close,
    )
