"""Section of the object store."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.object_location import (
    ALLOWED,
    ObjectLocation,
    StoreKind,
    parse_object_location,
)
from isocenter.services.settings import value_types as kinds
from isocenter.services.settings.field import MIB, seconds, setting

#: What is done after an object was written to a bucket, before it is acknowledged.
Verify = Literal["none", "head", "read"]
#: How the store encrypts what it keeps; ``bucket``: as the bucket is set up.
Encryption = Literal["bucket", "AES256", "aws:kms", "aws:kms:dsse"]

_NO_URL: Final = ""


class LocationKind:
    """The URL of an object store."""

    names_place = True

    @property
    def allowed(self) -> str:
        return f"{ALLOWED}, or nothing"

    def from_toml(self, value: object) -> ObjectLocation | None:
        """A URL, or nothing."""
        if not isinstance(value, str):
            raise TypeError
        return self.from_text(value)

    def from_text(self, text: str) -> ObjectLocation | None:
        """A URL, or nothing."""
        if text == _NO_URL:
            return None
        try:
            return parse_object_location(text)
        except ValueError as error:  # without the value: somebody may have put a secret into it
            raise kinds.InvalidValueError(str(error)) from None

    def to_toml(self, value: object) -> str:
        """Quoted."""
        return kinds.toml_string(_NO_URL if value is None else str(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectsSettings:
    """Where the bytes of objects are kept, if not in the data directory."""

    url: ObjectLocation | None = setting(
        None,
        LocationKind(),
        f"where to keep the bytes of objects: {ALLOWED} (nothing: in the data directory)",
        "--objects",
        "URL",
    )
    credentials_file: Path | None = setting(
        None,
        kinds.FilePath("a file"),
        "file with credentials for the object store, lines NAME = VALUE named as the environment "
        "variables, such as AWS_ACCESS_KEY_ID (nothing: the environment, or the role of the "
        "machine)",
    )
    ca_file: Path | None = setting(
        None,
        kinds.FilePath("a file"),
        "file with CA certificates (PEM) to trust for the object store beside those of the system",
    )
    keys_file: Path | None = setting(
        None,
        kinds.FilePath("a file"),
        "file with keys (lines ID = 32 bytes in Base64) to encrypt objects before they go to S3 or "
        "Azure; the first is for new objects, all are for reading. Objects cannot be read without",
    )
    verify: Verify = setting(
        "none",
        kinds.one_of("none", "head", "read"),
        "what to do after writing to S3 or Azure, before the object is acknowledged: none: trust "
        "the answer; head: ask whether it is there; read: read it back and compare",
    )
    requests: int = setting(
        32,
        kinds.Integer(1, 1_000),
        "requests to S3 or Azure at once for storing, and as many for reading (of one worker)",
    )
    cache_bytes: int = setting(
        0,
        kinds.Integer(MIB, 1 << 50, "bytes", zero="none"),
        "disk space in the data directory for parts of objects that were read from S3 or Azure (of "
        "all workers together)",
    )
    timeout: float = seconds(30.0, "one request to S3 or Azure; after it the object gets A700H")
    encryption: Encryption = setting(
        "bucket",
        kinds.one_of("bucket", "AES256", "aws:kms", "aws:kms:dsse"),
        "how S3 is asked to encrypt what it keeps (bucket: as the bucket is set up)",
    )
    kms_key: str = setting(
        "",
        kinds.Text("the ID of a key", lambda text: text.isprintable()),
        "key of the key management service for encryption aws:kms (empty: that of the bucket)",
    )

    @property
    def in_bucket(self) -> ObjectLocation | None:
        """The bucket or container; None: objects are files."""
        if self.url is None or self.url.kind is StoreKind.FILES:
            return None
        return self.url

    def folder(self, data_dir: Path) -> Path:
        """Where objects are files."""
        if self.url is not None and self.url.kind is StoreKind.FILES:
            return Path(self.url.bucket)
        return data_dir
