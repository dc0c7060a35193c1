"""URLs of DICOMweb resources, as others reach them."""

from __future__ import annotations

from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.net.addresses import is_loopback
from isocenter.services.net.http.messages import Request

#: Where the services begin.
ROOT: Final = "/dicomweb"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicUrls:
    """How callers name this server.

    Attributes:
        public_root: the address before `ROOT`, as ``https://archive.example``; empty: what the
            caller asked for.  No header of a proxy changes it.
    """

    public_root: str = ""

    def base(self, request: Request) -> str:
        """The URL of the service."""
        if self.public_root:
            return self.public_root.rstrip("/") + ROOT
        return f"{request.scheme}://{_with_port(request)}{ROOT}"


def _with_port(request: Request) -> str:
    """The authority that was asked for.  Some clients leave the port of their server out of it;
    on this machine no proxy can have done that."""
    authority = request.authority or "localhost"
    has_port = authority.rpartition(":")[2].isdecimal() and not authority.endswith("]")
    if has_port or not is_loopback(authority) or not request.port:
        return authority
    return f"{authority}:{request.port}"


def instance_url(base: str, study: str, series: str = "", instance: str = "") -> str:
    """Where a study, a series or an instance is retrieved."""
    url = f"{base}/studies/{study}"
    if series:
        url += f"/series/{series}"
    return f"{url}/instances/{instance}" if instance else url
