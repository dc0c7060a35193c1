"""Settings that hold repositories of documents: ``[[sharing.repositories]]``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.integration.sharing.key_object_manifest import ManifestForm
from isocenter.services.integration.sharing.repository import (
    DocumentCodes,
    MetadataCode,
    Protocol,
    PublishWhen,
    Repository,
)
from isocenter.services.net.http.client import checked_base
from isocenter.services.settings import value_types as kinds
from isocenter.services.settings.value_types import InvalidValueError

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})*")


def _is_url(text: str) -> bool:
    try:
        checked_base(text)
    except ValueError:
        return False
    return True


def _is_code(text: str) -> bool:
    try:
        MetadataCode.parse(text)
    except ValueError:
        return False
    return True


_URL: Final = kinds.Text("an http or https URL without user, password and query", _is_url)
_CODE: Final = kinds.Text("CODE|SYSTEM|MEANING with a URI as SYSTEM", _is_code)
_CODES: Final = ("category", "kind", "facility", "practice", "confidentiality")
_OF_XDS: Final = ("registry", "documents", "imaging")
_FILES: Final = ("ca", "certificate", "key", "token_file")
_KEYS: Final[Mapping[str, kinds.ValueType[object]]] = {
    "name": kinds.Text(
        "letters, digits, '.', '_' and '-', up to 64", lambda text: bool(_NAME.fullmatch(text))
    ),
    "mhd": _URL,
    "xds": _URL,
    "registry": _URL,
    "documents": _URL,
    "imaging": _URL,
    "source_oid": kinds.UID,
    **dict.fromkeys(_FILES, kinds.FilePath()),
    "publish": kinds.Choice(PublishWhen),
    "modalities": kinds.ListOf(
        kinds.Text("a modality", lambda text: bool(re.fullmatch(r"[A-Z0-9_]{1,16}", text)))
    ),
    "form": kinds.Choice(ManifestForm),
    "language": kinds.Text(
        "a language tag, like en or de-AT", lambda text: bool(_LANGUAGE.fullmatch(text))
    ),
    "arrival_seconds": kinds.Integer(1, 86_400),
    **dict.fromkeys(_CODES, _CODE),
}


@dataclass(frozen=True, slots=True)
class RepositoriesKind:
    """What the setting that holds the repositories may be; its faults name the repository."""

    allowed: str = "tables [[sharing.repositories]] with name, mhd or xds, and source_oid"

    def from_toml(self, value: object) -> tuple[Repository, ...]:
        """An array of tables."""
        if not isinstance(value, list):
            raise InvalidValueError(f"must be {self.allowed}")
        found = kinds.each(
            kinds.Part(f"no. {number}", item, "a repository", partial(_repository, item, number))
            for number, item in enumerate(value, 1)
        )
        names = [one.name for one in found]
        for name in names:
            if names.count(name) > 1:
                raise InvalidValueError(f"two repositories have the name {name}; keep one")
        return tuple(found)

    def from_text(self, text: str) -> tuple[Repository, ...]:
        """None but an empty text: a repository is more than a line."""
        if text.strip():
            raise InvalidValueError(f"must be {self.allowed}, in a file")
        return ()

    def to_toml(self, value: object) -> str:
        """Inline tables; they hold no secret."""
        assert isinstance(value, tuple)
        return f"[{', '.join(map(_to_toml, value))}]"


def _repository(table: object, number: int) -> Repository:
    if not isinstance(table, dict):
        raise InvalidValueError(f"repository {number} must be a table: [[sharing.repositories]]")
    name = table.get("name")
    is_name = isinstance(name, str) and _NAME.fullmatch(name)
    who = f"repository {name}" if is_name else f"no. {number}"
    values: dict[str, Any] = {}
    for key, raw in table.items():
        kind = _KEYS.get(key)
        if kind is None:
            raise InvalidValueError(f"{who}: there is no {key!r}; there are {', '.join(_KEYS)}")
        try:
            values[key] = kind.from_toml(raw)
        except (ValueError, TypeError) as error:
            raise InvalidValueError(
                f"{who}: {key} = {raw!r:.80}: must be {kind.allowed}"
            ) from error
    for key in ("name", "source_oid"):
        if key not in values:
            raise InvalidValueError(f"{who} needs {key}")
    if ("mhd" in values) == ("xds" in values):
        raise InvalidValueError(f"{who} needs one of mhd and xds")
    for key in _OF_XDS:
        if key in values and "mhd" in values:
            raise InvalidValueError(f"{who}: {key} is for xds")
    if ("certificate" in values) != ("key" in values):
        raise InvalidValueError(f"{who}: certificate and key go together")
    for key in _FILES:
        if key in values and not values[key].is_absolute():
            raise InvalidValueError(f"{who}: {key} must be an absolute path")
    codes = {key: MetadataCode.parse(values.pop(key)) for key in _CODES if key in values}
    if "publish" in values:
        values["when"] = values.pop("publish")
    protocol = Protocol.MHD if "mhd" in values else Protocol.XDS
    url = values.pop(protocol.value)
    return Repository(protocol=protocol, url=url, codes=DocumentCodes(**codes), **values)


def _to_toml(repository: Repository) -> str:
    values: dict[str, object] = {
        "name": repository.name,
        repository.protocol.value: repository.url,
        "source_oid": repository.source_oid,
        "publish": repository.when,
        "modalities": repository.modalities,
        "form": repository.form,
        "language": repository.language,
        "arrival_seconds": repository.arrival_seconds,
        **{key: str(getattr(repository.codes, key)) for key in _CODES},
    }
    values |= {key: getattr(repository, key) for key in _OF_XDS if getattr(repository, key)}
    values |= {
        key: getattr(repository, key) for key in _FILES if getattr(repository, key) is not None
    }
    pairs = (f"{key} = {_KEYS[key].to_toml(value)}" for key, value in values.items())
    return f"{{ {', '.join(pairs)} }}"
