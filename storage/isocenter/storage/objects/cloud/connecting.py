"""Connecting to a bucket: location, credentials and options, as obstore wants them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from obstore.exceptions import BaseError
from obstore.store import AzureStore, S3Store
from obstore.store import ObjectStore as Client

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.object_location import ObjectLocation, StoreKind
from isocenter.services.errors import StorageError, text_of
from isocenter.storage.objects.cloud.breaker import Breaker
from isocenter.storage.objects.cloud.bucket import Bucket
from isocenter.storage.objects.cloud.folder import FolderBucket

_CONNECT_SECONDS: Final = 5.0
#: Of requests that may be repeated.
_RETRIES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOptions:
    """How to talk to a store.

    Attributes:
        credentials_file: lines ``NAME = VALUE``, named as the environment variables; None: the
            environment has them, or the machine's role.
        ca_file: certificates (PEM) to trust beside those of the system.
        requests: at once, for storing; as many again for reading.
        timeout: seconds of one request.
        encryption: of the server: ``AES256``, ``aws:kms``, ``aws:kms:dsse``; empty: as the bucket
            has it.
        kms_key: ID of the key of ``aws:kms``.
        is_durable: what is in a folder survives a power failure; other stores promise it.
        storage_class: of what is written: a storage class of S3, an access tier of Azure; empty: as
            the bucket has it.
    """

    credentials_file: Path | None = None
    ca_file: Path | None = None
    requests: int = 32
    timeout: float = 30.0
    encryption: str = ""
    kms_key: str = ""
    is_durable: bool = True
    storage_class: str = ""


def connect_bucket(location: ObjectLocation, options: ConnectOptions) -> Bucket:
    """Asks nothing yet; a folder is made.

    Raises:
        StorageError: a file cannot be read, or something in it has no meaning.
    """
    if location.kind is StoreKind.FILES:
        return FolderBucket(
            Path(location.bucket),
            place=str(location),
            requests=options.requests,
            breaker=Breaker(str(location)),
            timeout=options.timeout,
            is_durable=options.is_durable,
        )
    config = _credentials(options.credentials_file)
    parameters = dict(location.parameters)
    endpoint = parameters.get("endpoint")
    if endpoint:
        config["endpoint"] = endpoint
    client_options: dict[str, Any] = {
        "allow_http": bool(endpoint and endpoint.startswith("http://")),
        "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
        "timeout": timedelta(seconds=options.timeout),
        "user_agent": "isocenter",
    }
    if options.ca_file is not None:
        client_options["root_certificate"] = _read(options.ca_file, "objects.ca_file")

    def client(retries: int) -> Client:
        shared: dict[str, Any] = {
            "prefix": location.prefix or None,
            "config": config,
            "client_options": client_options,
            "retry_config": {
                "max_retries": retries,
                "retry_timeout": timedelta(seconds=options.timeout),
            },
        }
        if location.kind is StoreKind.AZURE:
            return AzureStore(location.bucket, **shared)
        return S3Store(location.bucket, **shared)

    if location.kind is StoreKind.AZURE:
        if account := parameters.get("account"):
            config["azure_storage_account_name"] = account
    else:
        # Each object is removed by a request of its own, which every store knows.
        config["aws_disable_bulk_delete"] = "true"
        if parameters.get("checksum") != "none":
            config["aws_checksum_algorithm"] = "SHA256"
        if region := parameters.get("region"):
            config["aws_region"] = region
        if parameters.get("virtual_host") == "true":
            config["aws_virtual_hosted_style_request"] = "true"
        if options.encryption:
            config["aws_server_side_encryption"] = options.encryption
        if options.kms_key:
            config["aws_sse_kms_key_id"] = options.kms_key
    place = str(location)
    try:
        clients = client(_RETRIES), client(0)
    except (BaseError, ValueError, TypeError) as error:
        # Its text may hold what stands in the file.
        known = type(error).__name__
        raise StorageError(
            f"{place} cannot be used with these credentials and options ({known}); the names in "
            "objects.credentials_file are those of the environment variables, such as "
            "AWS_ACCESS_KEY_ID or AZURE_STORAGE_ACCOUNT_KEY"
        ) from None
    return Bucket(
        *clients,
        place=place,
        requests=options.requests,
        breaker=Breaker(place),
        storage_class=options.storage_class,
    )


def _credentials(path: Path | None) -> dict[str, str]:
    """Names in small letters; of the sections that AWS has in such files, the first counts."""
    if path is None:
        return {}
    found: dict[str, str] = {}
    sections = 0
    for number, line in enumerate(_read(path, "objects.credentials_file").splitlines(), 1):
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("["):
            sections += 1
            continue
        name, mark, value = line.removeprefix("export ").partition("=")
        if not mark:
            raise StorageError(
                f"line {number} of objects.credentials_file {path} is not NAME = VALUE"
            )
        if sections <= 1:
            found[name.strip().lower()] = value.strip().strip("\"'")
    return found


def _read(path: Path, key: str) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{key} {path} cannot be read: {text_of(error)}") from error
