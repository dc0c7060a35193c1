"""Location of an object store: a URL, read and checked, without credentials."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from enum import Enum
from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from isocenter.engine.fast_init import dataclass
from isocenter.services.net.addresses import is_loopback

ALLOWED: Final = (
    "file:///FOLDER, s3://BUCKET/PREFIX?endpoint=URL&region=REGION or "
    "az://CONTAINER/PREFIX?account=NAME"
)

#: A bucket of S3 or a container of Azure, also of those that are less strict than either.
_BUCKET: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{1,254}")
_PREFIX_PART: Final = re.compile(r"[0-9A-Za-z._~-]+")
_SECRET: Final = re.compile(r"key|secret|token|sig|password|credential", re.IGNORECASE)


class StoreKind(Enum):
    """What keeps objects."""

    FILES = "file"
    S3 = "s3"
    AZURE = "az"


#: What may stand behind the question mark.
_PARAMETERS: Final[Mapping[StoreKind, frozenset[str]]] = {
    StoreKind.FILES: frozenset(),
    StoreKind.S3: frozenset({"checksum", "endpoint", "region", "virtual_host"}),
    StoreKind.AZURE: frozenset({"account", "endpoint"}),
}

_VALUES: Final = {"checksum": ("sha256", "none"), "virtual_host": ("true", "false")}


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectLocation:
    """Where the bytes of objects are kept.

    Attributes:
        bucket: or container; of files, the absolute path of their folder.
        prefix: of all keys, without slashes at its ends; empty: none.
        parameters: ``endpoint``, ``region`` and the like.
    """

    kind: StoreKind
    bucket: str
    prefix: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """Without how it is reached, which may change."""
        return str(ObjectLocation(kind=self.kind, bucket=self.bucket, prefix=self.prefix))

    @property
    def host_in_the_clear(self) -> str:
        """The other machine to which objects travel without TLS; empty: they do not."""
        url = urlsplit(self.parameters.get("endpoint", ""))
        host = url.hostname or ""
        return host if url.scheme == "http" and not is_loopback(host) else ""

    def __str__(self) -> str:
        if self.kind is StoreKind.FILES:
            return f"file://{self.bucket}"
        query = urlencode(self.parameters, safe=":/")
        path = f"{self.bucket}/{self.prefix}" if self.prefix else self.bucket
        return f"{self.kind.value}://{path}" + (f"?{query}" if query else "")


def parse_object_location(text: str) -> ObjectLocation:
    """Raises:
    ValueError: *text* is no such URL; the message says what is wrong in it, and shows no value
        that could be a secret.
    """
    url = urlsplit(text)
    kinds = {kind.value: kind for kind in StoreKind}
    if url.scheme not in kinds:
        raise ValueError(f"must begin with file://, s3:// or az:// ({ALLOWED})")
    kind = kinds[url.scheme]
    if "@" in url.netloc:
        raise ValueError(
            "credentials do not belong into the URL: put them into the environment, or into the "
            "file that objects.credentials_file names"
        )
    if url.fragment:
        raise ValueError("a # has no meaning here")
    parameters = _parameters(kind, url.query)
    if kind is StoreKind.FILES:
        path = unquote(url.path)
        if url.netloc or not path.startswith("/"):
            raise ValueError("of files the URL is file:// and an absolute path: file:///FOLDER")
        return ObjectLocation(kind=kind, bucket=path)
    if not _BUCKET.fullmatch(url.netloc):
        raise ValueError(f"the name of the bucket or container is missing or wrong ({ALLOWED})")
    prefix = unquote(url.path).strip("/")
    if prefix and not all(
        _PREFIX_PART.fullmatch(part) and part not in (".", "..") for part in prefix.split("/")
    ):
        raise ValueError("the prefix may have letters, digits and . _ ~ - between its slashes")
    return ObjectLocation(kind=kind, bucket=url.netloc, prefix=prefix, parameters=parameters)


def _parameters(kind: StoreKind, query: str) -> dict[str, str]:
    known = _PARAMETERS[kind]
    parameters: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            if _SECRET.search(name):
                raise ValueError(
                    f"{name} does not belong into the URL: put credentials into the environment, "
                    "or into the file that objects.credentials_file names"
                )
            allowed = ", ".join(sorted(known)) or "none"
            raise ValueError(f"there is no parameter {name} (there are: {allowed})")
        if not value or name in parameters:
            raise ValueError(f"the parameter {name} needs one value")
        parameters[name] = value
    if endpoint := parameters.get("endpoint"):
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise ValueError("endpoint must be a URL such as https://s3.example.org:9000")
    for name, values in _VALUES.items():
        if parameters.get(name, values[0]) not in values:
            raise ValueError(f"{name} must be {' or '.join(values)}")
    return parameters
