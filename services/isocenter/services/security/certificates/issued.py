"""Record of issued and revoked certificates: ``issued.json``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import orjson

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.errors import text_of
from isocenter.services.system.private_files import PRIVATE_FILE, write_file

#: Where in the data directory the private CA lies.
CA_FOLDER: Final = "certs"
#: The name under which the server's own certificate is listed.
SERVER_NAME: Final = "server"
#: Texts that nodes of an archive share (`isocenter.services.security.certificates.shared`).
REVOCATIONS: Final = "revocations"
AUTHORITIES: Final = "authorities"
#: What ends sooner is renewed.
RENEW_WITHIN: Final = timedelta(days=60)

_RECORD: Final = "issued.json"


class CertificateError(IsocenterError):
    """The CA cannot do this: the message says why, and what would help."""

    error_code = ErrorCode.CERTIFICATE


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """One certificate that the CA has signed.

    Attributes:
        name: by which it is revoked and renewed; what its files are called.
        common_name: the AE title.
        folder: where its files were written.
        pem: the certificate.
        revoked_at: None: it is not revoked.
    """

    name: str
    common_name: str
    serial_number: int
    not_before: datetime
    not_after: datetime
    folder: Path
    pem: str
    revoked_at: datetime | None = None

    def state(self, now: datetime | None = None) -> str:
        """``valid``, ``expired`` or ``revoked``."""
        if self.revoked_at is not None:
            return "revoked"
        return "valid" if self.not_after > (now or datetime.now(UTC)) else "expired"


def write_record(directory: Path, record: Sequence[Issued]) -> None:
    """Replace the record in *directory*.

    Raises:
        CertificateError: it cannot be written.
    """
    rows = [
        {
            "name": one.name,
            "common_name": one.common_name,
            # A serial number has 159 bits; numbers in JSON have 53.
            "serial_number": f"{one.serial_number:x}",
            "not_before": one.not_before.isoformat(),
            "not_after": one.not_after.isoformat(),
            "revoked_at": one.revoked_at.isoformat() if one.revoked_at else None,
            "folder": str(one.folder),
            "pem": one.pem,
        }
        for one in record
    ]
    content = orjson.dumps(rows, option=orjson.OPT_INDENT_2)
    try:
        write_file(directory / _RECORD, content, PRIVATE_FILE, replace=True)
    except OSError as error:
        raise unusable(directory / _RECORD, error) from error


def read_record(directory: Path) -> list[Issued]:
    """The record in *directory*, oldest first.

    Raises:
        CertificateError: it is missing or damaged.
    """
    path = directory / _RECORD
    try:
        return [
            Issued(
                name=row["name"],
                common_name=row["common_name"],
                serial_number=int(row["serial_number"], 16),
                not_before=datetime.fromisoformat(row["not_before"]),
                not_after=datetime.fromisoformat(row["not_after"]),
                revoked_at=datetime.fromisoformat(row["revoked_at"]) if row["revoked_at"] else None,
                folder=Path(row["folder"]),
                pem=row["pem"],
            )
            for row in orjson.loads(path.read_bytes())
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise unusable(path, error) from error


def is_of_private_ca(path: Path) -> bool:
    """Whether a certificate lies beside the CA that has signed it, under its own name."""
    return (path.parent / _RECORD).is_file()


def unusable(path: Path, error: Exception) -> CertificateError:
    """A file of the CA that cannot be used, and what would help."""
    match error:
        case FileNotFoundError():
            fault = "no such file; restore it from a backup, or make a new CA elsewhere"
        case OSError():
            fault = f"{text_of(error)}; let the user who runs isocenter read and write it"
        case _:
            fault = "cannot be read; restore it from a backup"
    return CertificateError(f"{path}: {fault}")
