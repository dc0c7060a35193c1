"""Errors of a bucket, with fault and cure, and without secrets.

obstore tells the HTTP status in its text only, and that text has whole URLs in it, which may be
signed.  So nothing of the text goes on but the status and the code of the answer.
"""

from __future__ import annotations

import re
from typing import Final

from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

from isocenter.engine.error_codes import ErrorCode
from isocenter.services.errors import StorageError

_STATUS: Final = re.compile(r"status code: ([0-9]{3})")
_CODE: Final = re.compile(r"<Code>([A-Za-z0-9]{1,64})</Code>")
_REGION: Final = re.compile(r"<Region>([a-z0-9-]{1,32})</Region>")
_NO_CREDENTIALS: Final = ("169.254.169.254", "169.254.170.2", "metadata token", "MSI")
_MISSING_BUCKET: Final = frozenset({"NoSuchBucket", "ContainerNotFound", "InvalidBucketName"})
_FULL: Final = frozenset({"QuotaExceeded", "InsufficientStorage", "EntityTooLarge"})
_OTHER_REGION: Final = frozenset(
    {
        "AuthorizationHeaderMalformed",
        "PermanentRedirect",
        "IllegalLocationConstraintException",
        "TemporaryRedirect",
    }
)
_WRONG_KEY: Final = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthenticationFailed", "InvalidClientTokenId"}
)
_NOT_ALLOWED: Final = frozenset({"AccessDenied", "AuthorizationPermissionMismatch"})
_ANSWER: Final = "the object store is not available; send it again later"


class BucketError(StorageError):
    """A request to the object store failed.

    Attributes:
        is_away: the store is not there, or too busy: it may be a moment later.
        is_unknown: whether the request was carried out, nobody knows.
        is_unsupported: the store does not do what was asked for.
    """

    error_code = ErrorCode.BUCKET

    def __init__(
        self,
        message: str,
        *,
        is_away: bool = False,
        is_unknown: bool = False,
        is_unsupported: bool = False,
    ) -> None:
        super().__init__(message, out_of_resources=True, comment=_ANSWER)
        self.is_away = is_away
        self.is_unknown = is_unknown
        self.is_unsupported = is_unsupported


def is_missing(error: Exception) -> bool:
    """Whether the object is not there, rather than the bucket."""
    return isinstance(error, FileNotFoundError) and _code(str(error)) not in _MISSING_BUCKET


def is_empty_range(error: Exception) -> bool:
    """Whether a range was asked for that begins behind the end."""
    text = str(error)
    return _STATUS.findall(text)[:1] == ["416"] or "StartTooLarge" in text


def bucket_error(error: Exception, place: str) -> BucketError:
    """What went wrong at *place*, the URL of the store."""
    text = str(error)
    status, code = (_STATUS.findall(text) or [""])[0], _code(text)
    answer = " ".join(part for part in (status, code) if part)
    if not status and any(mark in text for mark in _NO_CREDENTIALS):
        return BucketError(
            f"there are no credentials for {place}; set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY (or AZURE_STORAGE_ACCOUNT_KEY), or objects.credentials_file"
        )
    if code in _MISSING_BUCKET:
        return BucketError(
            f"the bucket or container of {place} does not exist ({answer}); create it, or correct "
            "objects.url"
        )
    if code in _OTHER_REGION or status == "301" or "incorrectly configured region" in text:
        region = _REGION.search(text)
        say = f"region={region[1]}" if region else "region=… with the region of the bucket"
        return BucketError(
            f"the bucket of {place} is in another region ({answer or 'redirect'}); put {say} into "
            "objects.url"
        )
    if code in ("RequestTimeTooSkewed", "RequestExpired"):
        return BucketError(
            f"{place} refuses requests because our clock differs from its clock ({answer}); "
            "synchronize the clocks (NTP)"
        )
    is_denied = isinstance(error, PermissionDeniedError | UnauthenticatedError)
    if is_denied or status in ("401", "403"):
        cures = []
        if code not in _NOT_ALLOWED:
            cures.append("correct the credentials in the environment or objects.credentials_file")
        if code not in _WRONG_KEY:
            cures.append("allow these credentials to list, read, write and delete below the prefix")
        cure = ", or ".join(cures)
        return BucketError(f"{place} denies access ({answer or 'denied'}); {cure}")
    if status == "507" or code in _FULL:
        return BucketError(f"there is no room in {place} ({answer}); make room, or raise its quota")
    if status == "501" or code == "NotImplemented":
        return BucketError(
            f"{place} does not do what was asked for ({answer}); if it is about checksums, put "
            "checksum=none into objects.url",
            is_unsupported=True,
        )
    if status:
        is_away = status[0] == "5" or status in ("408", "429")
        return BucketError(
            f"{place} answered {answer}" + ("; it is retried" if is_away else ""),
            is_away=is_away,
            is_unknown=status[0] == "5",
        )
    if "Connect" in text and "kind: Connect" in text:
        return BucketError(
            f"{place} cannot be reached; correct endpoint= in objects.url, or have the store "
            "started and the network checked",
            is_away=True,
        )
    if "kind: Timeout" in text or "timed out" in text or "kind: " in text:
        return BucketError(
            f"{place} did not answer in time (objects.timeout), or the connection broke",
            is_away=True,
            is_unknown=True,
        )
    return BucketError(f"a request to {place} failed: {_first_line(text)}", is_unknown=True)


def _code(text: str) -> str:
    found = _CODE.search(text)
    return found[1] if found else ""


def _first_line(text: str) -> str:
    """Without anything that looks like a URL."""
    line = text.split("\n", 1)[0]
    return re.sub(r"\S*://\S*", "…", line)[:200]
