"""Settings that hold AI services: ``[[ai_services]]``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from isocenter.engine.fast_init import dataclass
from isocenter.services.integration.ai.ai_service import (
    AiService,
    Authentication,
    is_service_name,
)
from isocenter.services.net.addresses import is_loopback
from isocenter.services.net.http.client import checked_base
from isocenter.services.settings import value_types as kinds
from isocenter.services.settings.array_of_tables import ArrayOfTables, inline

MAX_SERVICES: Final = 100
_MOST_PARAMETERS: Final = 100
_MOST_TEXT: Final = 256
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_MODALITY: Final = re.compile(r"[A-Z0-9_]{1,16}", re.ASCII)
#: Seconds by key of the table → field, and the most.
_SECONDS: Final = {
    "connect_timeout": ("connect_seconds", 300.0),
    "answer_timeout": ("answer_seconds", 3_600.0),
    "poll_interval": ("poll_seconds", 3_600.0),
    "give_up_after": ("give_up_seconds", 7 * 86_400.0),
}
_NUMBERS: Final = {
    "most_results": ("most_results", 10_000),
    "most_result_bytes": ("most_result_bytes", 1 << 40),
}
_TEXTS: Final = ("name", "url", "authentication", "user", "key_file", "header", "ca", "model")
_SWITCHES: Final = {"strict": "is_strict", "research": "is_research"}
_KEYS: Final = (*_TEXTS, "parameters", "modalities", *_SECONDS, *_NUMBERS, *_SWITCHES)
_DEFAULTS: Final = AiService(name="default", url="https://localhost")


class AiServiceFault(kinds.InvalidValueError):
    """A service that cannot be; the message says which, and why."""


def parse_service(table: object) -> AiService:
    """One table of ``[[ai_services]]``.

    Raises:
        AiServiceFault: it cannot be.
    """
    if not isinstance(table, dict):
        raise AiServiceFault("each AI service is a table: [[ai_services]]")
    name = table.get("name")
    if not isinstance(name, str) or not is_service_name(name):
        raise AiServiceFault(
            "each of [[ai_services]] needs a name of up to 32 letters, digits, - and _"
        )

    def fault(text: str) -> AiServiceFault:
        return AiServiceFault(f"AI service {name!r}: {text}")

    unknown = sorted(table.keys() - set(_KEYS))
    if unknown:
        raise fault(f"there is no {unknown[0]!r}; there are {', '.join(_KEYS)}")
    for key in _TEXTS:
        value = table.get(key, "")
        if not isinstance(value, str) or not value.isprintable() or len(value) > 4 * _MOST_TEXT:
            raise fault(f"{key} is a text on one line")
    for key in _SWITCHES:
        if not isinstance(table.get(key, False), bool):
            raise fault(f"{key} is true or false")
    authentication, key_file = _authentication(table, fault)
    others: dict[str, Any] = {
        **{each: _seconds(key, table, most, fault) for key, (each, most) in _SECONDS.items()
           if key in table},
        **{each: _number(key, table, most, fault) for key, (each, most) in _NUMBERS.items()
           if key in table},
        **{each: table[key] for key, each in _SWITCHES.items() if key in table},
    }  # fmt: skip
    return AiService(
        name=name,
        url=_url(table.get("url", ""), authentication, fault),
        authentication=authentication,
        user=table.get("user", ""),
        key_file=key_file,
        header=_header(table.get("header", _DEFAULTS.header), fault),
        ca=_absolute("ca", table, fault),
        model=table.get("model", ""),
        parameters=_parameters(table.get("parameters", {}), fault),
        modalities=_modalities(table.get("modalities", []), fault),
        **others,
    )


_Fault = Callable[[str], AiServiceFault]


def _url(text: str, authentication: Authentication, fault: _Fault) -> str:
    try:
        base = checked_base(text)
    except ValueError as error:
        raise fault(f"url: {error}") from None
    parts = urlsplit(base)
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        raise fault("url begins with https://; in the clear only this machine is spoken to")
    return base


def _authentication(table: Mapping[str, Any], fault: _Fault) -> tuple[Authentication, Path | None]:
    known = [one.value for one in Authentication]
    text = table.get("authentication", Authentication.NONE.value)
    if text not in known:
        raise fault(f"authentication is one of {', '.join(known)}")
    chosen = Authentication(text)
    key_file = _absolute("key_file", table, fault)
    if (chosen is Authentication.NONE) != (key_file is None):
        raise fault("authentication and key_file belong together: name both, or neither")
    user = table.get("user", "")
    if (chosen is Authentication.BASIC) != bool(user) or ":" in user or not user.isascii():
        raise fault("user is for authentication basic, which needs one, in ASCII and without ':'")
    if "header" in table and chosen is not Authentication.API_KEY:
        raise fault("header is for authentication api_key")
    return chosen, key_file


def _header(text: str, fault: _Fault) -> str:
    if not _HEADER.fullmatch(text):
        raise fault("header is the name of a header of HTTP, like x-api-key")
    return text.lower()


def _absolute(key: str, table: Mapping[str, Any], fault: _Fault) -> Path | None:
    if key not in table:
        return None
    path = Path(table[key])
    if not path.is_absolute():
        raise fault(f"{key} is an absolute path")
    return path


def _parameters(value: object, fault: _Fault) -> Mapping[str, str]:
    if (
        not isinstance(value, dict)
        or len(value) > _MOST_PARAMETERS
        or not all(isinstance(one, str) and len(one) <= _MOST_TEXT for one in value.values())
    ):
        raise fault(
            f'parameters is a table of up to {_MOST_PARAMETERS} texts: {{ threshold = "300" }}'
        )
    return dict(value)


def _modalities(value: object, fault: _Fault) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(
        isinstance(one, str) and _MODALITY.fullmatch(one) for one in value
    ):
        raise fault('modalities is a list: ["CT", "MR"]')
    return tuple(value)


def _seconds(key: str, table: Mapping[str, Any], most: float, fault: _Fault) -> float:
    kind = kinds.Seconds(most)
    try:
        return kind.from_toml(table[key])
    except (ValueError, TypeError):
        raise fault(f"{key} must be {kind.allowed}") from None


def _number(key: str, table: Mapping[str, Any], most: int, fault: _Fault) -> int:
    kind = kinds.Integer(1, most)
    try:
        return kind.from_toml(table[key])
    except (ValueError, TypeError):
        raise fault(f"{key} must be {kind.allowed}") from None


@dataclass(frozen=True, slots=True)
class AiServiceKind:
    """One table of ``[[ai_services]]``."""

    allowed: str = (
        "a table [[ai_services]] with name and url, and what of authentication (none, bearer, "
        "api_key, basic), key_file, user, header, ca, model, parameters, modalities, "
        f"{', '.join((*_SECONDS, *_NUMBERS, *_SWITCHES))} is wanted"
    )

    def from_toml(self, value: object) -> AiService:
        """A table."""
        return parse_service(value)

    def from_text(self, text: str) -> AiService:
        """An inline table of TOML."""
        return parse_service(inline(text, AiServiceFault))

    def to_toml(self, value: object) -> str:
        """An inline table, without what is as by default."""
        assert isinstance(value, AiService)
        pairs = [f"{key} = {kinds.toml_string(text)}" for key, text in _texts_of(value).items()]
        if value.parameters:
            inner = ", ".join(
                f"{kinds.toml_string(key)} = {kinds.toml_string(text)}"
                for key, text in value.parameters.items()
            )
            pairs.append(f"parameters = {{ {inner} }}")
        if value.modalities:
            pairs.append(f"modalities = [{', '.join(map(kinds.toml_string, value.modalities))}]")
        for key, (field, _) in (_SECONDS | _NUMBERS).items():
            number = getattr(value, field)
            if number != getattr(_DEFAULTS, field):
                pairs.append(f"{key} = {number!r}")
        pairs += [f"{key} = true" for key, field in _SWITCHES.items() if getattr(value, field)]
        return f"{{ {', '.join(pairs)} }}"


def _texts_of(value: AiService) -> dict[str, str]:
    texts = {"name": value.name, "url": value.url}
    if value.authentication is not Authentication.NONE:
        texts["authentication"] = value.authentication.value
    if value.authentication is Authentication.API_KEY:
        texts["header"] = value.header
    others = {
        "user": value.user,
        "key_file": "" if value.key_file is None else str(value.key_file),
        "ca": "" if value.ca is None else str(value.ca),
        "model": value.model,
    }
    return texts | {key: text for key, text in others.items() if text}


AI_SERVICES: Final = ArrayOfTables(AiServiceKind(), "AI services", MAX_SERVICES, AiServiceFault)
