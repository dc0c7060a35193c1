"""Resources of a DICOMweb service by their UIDs, and the addresses that name them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import is_safe_uid
from isocenter.services.archive.index.attributes import Level

_PATH: Final = re.compile(
    r"(?P<base>.*?)/studies/(?P<study>[^/]+)"
    r"(?:/series/(?P<series>[^/]+)(?:/instances/(?P<instance>[^/]+)"
    r"(?:/frames/(?P<frames>[0-9,]+)|(?P<bulk>/bulk[a-z]*/[^?#]+))?)?)?"
    r"(?:/(?:series|instances|metadata|rendered|thumbnail|frames))?/?"
)
#: What a path may name of one object at once.
_MOST_FRAMES: Final = 1_000


@dataclass(frozen=True, slots=True)
class WebResource:
    """A study, a series, an instance, or of one frames or a value.

    Attributes:
        frames: numbers, from 1.
        bulk: what follows the instance in the address of a value (BulkDataURI).

    Raises:
        ValueError: a UID is none, or stands there without the one above it.
    """

    study: str
    series: str = ""
    instance: str = ""
    frames: tuple[int, ...] = ()
    bulk: str = ""

    def __post_init__(self) -> None:
        uids = (self.study, self.series, self.instance)
        if not self.study or not all(is_safe_uid(uid) for uid in uids if uid):
            raise ValueError("a resource is named by UIDs")
        if (self.instance and not self.series) or (
            (self.frames or self.bulk) and not self.instance
        ):
            raise ValueError("a resource is named with all that it is part of")
        if len(self.frames) > _MOST_FRAMES or any(number < 1 for number in self.frames):
            raise ValueError(f"frames are named by numbers from 1, at most {_MOST_FRAMES:,}")

    @property
    def level(self) -> Level:
        """Study, series or image."""
        return Level.IMAGE if self.instance else Level.SERIES if self.series else Level.STUDY

    @property
    def path(self) -> str:
        """Below the address of the service."""
        path = f"/studies/{self.study}"
        if self.series:
            path += f"/series/{self.series}"
        if self.instance:
            path += f"/instances/{self.instance}"
        if self.frames:
            path += f"/frames/{','.join(map(str, self.frames))}"
        return path + self.bulk

    def instance_of(self, series: str, instance: str) -> WebResource:
        """An instance within it."""
        return WebResource(self.study, series or self.series, instance)


def split_address(url: str) -> tuple[str, WebResource | None]:
    """The address of a service, and what an address of something in it names.

    Raises:
        ValueError: it names what is no UID.
    """
    parts = urlsplit(url)
    found = _PATH.fullmatch(parts.path)
    if found is None:
        return url, None
    numbers = tuple(int(each) for each in (found["frames"] or "").split(",") if each)
    uids = (found["study"], found["series"] or "", found["instance"] or "")
    resource = WebResource(*uids, numbers, found["bulk"] or "")
    return urlunsplit((parts.scheme, parts.netloc, found["base"], "", "")), resource


def below(base: str, uris: Sequence[str]) -> str:
    """The address of what a server names by the first of *uris* that can be in its service.

    Servers behind a proxy write addresses that only they can reach; relative ones are from the
    service, or from the study.

    Raises:
        ValueError: none of them is in it.
    """
    root = urlsplit(base)
    for uri in uris:
        parts = urlsplit(uri)
        if (parts.scheme, parts.netloc) == (root.scheme, root.netloc):
            return uri
        at = parts.path.find("/studies/")
        if at >= 0 and parts.scheme in ("", "http", "https"):
            query = f"?{parts.query}" if parts.query else ""
            return base + parts.path[at:] + query
        if not parts.scheme and not parts.netloc and parts.path.startswith("studies/"):
            return f"{base}/{uri}"
    raise ValueError("an address leads to another server, which is not asked")
