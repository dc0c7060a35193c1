"""Groups of settings in the API: DICOM, storage, logging, under names of their own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from isocenter.engine.uid import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Route
from isocenter.services.web.configuration import Configuration, InvalidChangeError, ShownSetting
from isocenter.services.web.rest.bodies import Body, answer, read_body
from isocenter.services.web.rest.configuration import Changed, change
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.entity_tags import check_unchanged, tagged

_SERVICE: Final = "Settings"
_UNSET: Final = msgspec.UNSET


class DicomConfig(Body):
    """DICOM; times in seconds, and what is implemented cannot be changed."""

    ae_title: str
    port: int
    max_associations: int
    max_pdu_size: int
    idle_timeout: float
    association_timeout: float
    ae_whitelist: list[str]
    accept_unknown_calling_ae: bool
    accept_unknown_called_ae: bool
    implementation_class_uid: str
    implementation_version_name: str


class DicomChange(Body):
    """What of it is to change; an empty `ae_whitelist` admits every AE title, and so does
    `accept_unknown_calling_ae`, whatever is on it."""

    ae_title: str | msgspec.UnsetType = _UNSET
    port: int | msgspec.UnsetType = _UNSET
    max_associations: int | msgspec.UnsetType = _UNSET
    max_pdu_size: int | msgspec.UnsetType = _UNSET
    idle_timeout: float | msgspec.UnsetType = _UNSET
    association_timeout: float | msgspec.UnsetType = _UNSET
    ae_whitelist: list[str] | msgspec.UnsetType = _UNSET
    accept_unknown_calling_ae: bool | msgspec.UnsetType = _UNSET
    accept_unknown_called_ae: bool | msgspec.UnsetType = _UNSET


class StorageConfig(Body):
    """Storage; where it lies cannot be changed while the server runs.  `max_bytes` 0: no limit."""

    root_path: str
    naming_scheme: str
    duplicate_policy: str
    max_bytes: int
    reserve_bytes: int
    trash_days: int
    durability: str
    create_directories: bool
    file_extension: str


class StorageChange(Body):
    """What of it is to change."""

    naming_scheme: str | msgspec.UnsetType = _UNSET
    duplicate_policy: str | msgspec.UnsetType = _UNSET
    max_bytes: int | msgspec.UnsetType = _UNSET
    reserve_bytes: int | msgspec.UnsetType = _UNSET
    trash_days: int | msgspec.UnsetType = _UNSET
    durability: str | msgspec.UnsetType = _UNSET


class LoggingConfig(Body):
    """Log and audit trail; without a file the log goes to the console."""

    level: str
    format: str
    console: bool
    file: str | None
    max_file_size: int
    max_files: int
    audit: bool
    audit_directory: str | None


class LoggingChange(Body):
    """What of it is to change; null: to the console, and into the data directory."""

    level: str | msgspec.UnsetType = _UNSET
    format: str | msgspec.UnsetType = _UNSET
    file: str | msgspec.UnsetType | None = _UNSET
    max_file_size: int | msgspec.UnsetType = _UNSET
    max_files: int | msgspec.UnsetType = _UNSET
    audit: bool | msgspec.UnsetType = _UNSET
    audit_directory: str | msgspec.UnsetType | None = _UNSET


_ALLOW: Final = "access.allow"
_OPEN: Final = "access.accept_unknown_calling_ae_title"
#: Field → key of the setting.
_DICOM: Final = {
    "ae_title": "server.ae_title",
    "port": "server.port",
    "max_associations": "server.max_associations",
    "max_pdu_size": "server.max_pdu_length",
    "idle_timeout": "deadlines.idle",
    "association_timeout": "deadlines.association_request",
    "ae_whitelist": _ALLOW,
    "accept_unknown_calling_ae": _OPEN,
    "accept_unknown_called_ae": "server.accept_any_called_ae_title",
}
_STORAGE: Final = {
    "root_path": "storage.data_dir",
    "naming_scheme": "storage.naming",
    "duplicate_policy": "storage.duplicates",
    "max_bytes": "storage.max_bytes",
    "reserve_bytes": "storage.reserve",
    "trash_days": "storage.trash_days",
    "durability": "storage.durability",
}
_LOGGING: Final = {
    "level": "log.level",
    "format": "log.format",
    "file": "log.file",
    "max_file_size": "log.rotate",
    "max_files": "log.keep_files",
    "audit": "audit.enabled",
    "audit_directory": "audit.folder",
}
#: What a group is, of the values of its settings.
Make = Callable[[Mapping[str, Any]], Body]
_REFUSED: Final = Answer(400, "A value cannot be; `faults` has all that is wrong.")


class SettingsGroupApi:
    """Answers with groups of settings, and changes them."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield from self._of("dicom", DicomConfig, DicomChange, _DICOM, _dicom)
        yield from self._of("storage", StorageConfig, StorageChange, _STORAGE, _storage)
        yield from self._of("logging", LoggingConfig, LoggingChange, _LOGGING, _logging)

    def _of(
        self, name: str, kind: type[Body], taken: type[Body], keys: Mapping[str, str], make: Make
    ) -> Iterator[Route[Handler]]:
        path, called = f"/system/{name}-config", name.capitalize()

        async def show(request: Request) -> Response:
            return tagged(request, make(_values(await self._shown(), keys)))

        async def put(request: Request) -> Response:
            body = await read_body(request, taken)
            values = _changes(body, keys)

            def check(shown: Sequence[ShownSetting]) -> None:
                check_unchanged(request, make(_values(shown, keys)))
                _check_closed(values, shown)

            return answer(await change(self._configuration, request, values, check))

        shown: Callable[[Request], Awaitable[Response]] = show
        yield endpoint(
            "GET", path, shown, f"The settings of {name}, under names of their own.",
            name=f"Get{called}Config", service=_SERVICE, needs="state", gives=kind, has_tag=True,
        )  # fmt: skip
        yield endpoint(
            "PUT", path, put, f"Change settings of {name}; what is left out stays.",
            name=f"Change{called}Config", service=_SERVICE, needs="configure", takes=taken,
            gives=Changed, answers=(_REFUSED,), has_tag=True,
        )  # fmt: skip

    async def _shown(self) -> Sequence[ShownSetting]:
        try:
            return await self._configuration.settings()
        except InvalidChangeError as error:
            raise HttpError(503, "CONFIG_UNAVAILABLE", str(error)) from error


def _values(shown: Sequence[ShownSetting], keys: Mapping[str, str]) -> Mapping[str, Any]:
    by_key = {one.key: one.value for one in shown}
    return {field: by_key[key] for field, key in keys.items()}


def _changes(body: Body, keys: Mapping[str, str]) -> dict[str, Any]:
    """Values by key, of those fields that were said."""
    said = {
        name: value
        for name in body.__struct_fields__
        if (value := getattr(body, name)) is not _UNSET
    }
    return {keys[name]: value for name, value in said.items()}


def _check_closed(values: Mapping[str, Any], shown: Sequence[ShownSetting]) -> None:
    """Whoever says that unknown AE titles are not admitted has to name the known ones.

    Raises:
        HttpError: nobody is named (400).
    """
    if values.get(_OPEN) is False:
        allow = values.get(_ALLOW, next(one.value for one in shown if one.key == _ALLOW))
        if not allow:
            raise HttpError(
                400,
                "INVALID_REQUEST",
                "name in ae_whitelist who is admitted, or admit them by policy",
            )


def _dicom(values: Mapping[str, Any]) -> DicomConfig:
    is_open = values["accept_unknown_calling_ae"] or not values["ae_whitelist"]
    return DicomConfig(
        **{**values, "accept_unknown_calling_ae": is_open},
        implementation_class_uid=IMPLEMENTATION_CLASS_UID,
        implementation_version_name=IMPLEMENTATION_VERSION_NAME,
    )


def _storage(values: Mapping[str, Any]) -> StorageConfig:
    return StorageConfig(**values, create_directories=True, file_extension=".dcm")


def _logging(values: Mapping[str, Any]) -> LoggingConfig:
    return LoggingConfig(**values, console=values["file"] is None)
