"""Settings that hold consumers of events: ``[[events.consumers]]``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from isocenter.engine.fast_init import dataclass
from isocenter.services.settings import value_types as kinds
from isocenter.services.settings.value_types import InvalidValueError
from isocenter.services.workflow.events.consumer import (
    ALL_KINDS,
    Availability,
    Consumer,
    ProgramTarget,
    PythonFunction,
    Target,
    Webhook,
)
from isocenter.services.workflow.events.event import Kind

#: What `config show` prints in the place of a secret.
HIDDEN: Final = "(hidden)"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ENTRY_POINT: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_YEAR: Final = 365 * 86_400.0
_SECONDS: Final = kinds.Seconds()
_PATH: Final = kinds.FilePath()
_TEXT: Final = kinds.Text("text that is not empty", bool)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    return (
        parts.scheme in ("http", "https")
        and port != 0
        and bool(parts.hostname)
        and parts.username is None
        and text.isprintable()
        and " " not in text
    )


_KEYS: Final[Mapping[str, kinds.ValueType[object]]] = {
    "name": kinds.Text(
        "letters, digits, '.', '_' and '-', up to 64", lambda text: bool(_NAME.fullmatch(text))
    ),
    "webhook": kinds.Text("an http or https URL without user and password", _is_url),
    "secret": kinds.Text(
        f"text that is not empty (and not {HIDDEN}, which config show prints)",
        lambda text: text not in ("", HIDDEN),
    ),
    "secret_file": _PATH,
    "ca": _PATH,
    "command": kinds.ListOf(_TEXT),
    "python": kinds.Text("module:function", lambda text: bool(_ENTRY_POINT.fullmatch(text))),
    "availability": kinds.AE_TITLE,
    "kinds": kinds.ListOf(kinds.one_of(*ALL_KINDS)),
    "timeout": _SECONDS,
    "longest_retry": _SECONDS,
    "give_up_after": kinds.Seconds(_YEAR),
    "concurrency": kinds.Integer(1, 64),
}
_TARGETS: Final = ("webhook", "command", "python", "availability")
#: What a notification of availability can say.
_OF_AVAILABILITY: Final = (
    Kind.STUDY_COMPLETE.value,
    Kind.INSTANCES_DELETED.value,
    Kind.INSTANCES_RESTORED.value,
)
_OF_WEBHOOK: Final = ("secret", "secret_file", "ca")
_OWN: Final = ("kinds", "timeout", "longest_retry", "give_up_after", "concurrency")


@dataclass(frozen=True, slots=True)
class ConsumersKind:
    """What the setting that holds the consumers may be; its faults name the consumer."""

    allowed: str = (
        "tables [[events.consumers]] with name and one of webhook, command, python and "
        "availability, or as text NAME=URL, separated by commas"
    )

    def from_toml(self, value: object) -> tuple[Consumer, ...]:
        """An array of tables."""
        if not isinstance(value, list):
            # The value itself is not for the message: there may be a secret in it.
            raise InvalidValueError(f"must be {self.allowed}")
        return _distinct(
            kinds.each(
                kinds.Part(f"no. {number}", item, "a consumer", partial(_consumer, item, number))
                for number, item in enumerate(value, 1)
            )
        )

    def from_text(self, text: str) -> tuple[Consumer, ...]:
        """Webhooks for all events, without a secret."""
        found: list[Consumer] = []
        for item in filter(None, (each.strip() for each in text.split(","))):
            name, _, url = item.partition("=")
            found.append(_consumer({"name": name, "webhook": url}, len(found) + 1))
        return _distinct(found)

    def to_toml(self, value: object) -> str:
        """Inline tables, without secrets."""
        assert isinstance(value, tuple)
        return f"[{', '.join(map(_to_toml, value))}]"


def _distinct(consumers: list[Consumer]) -> tuple[Consumer, ...]:
    names = [consumer.name for consumer in consumers]
    for name in names:
        if names.count(name) > 1:
            raise InvalidValueError(f"two consumers have the name {name}; keep one")
    return tuple(consumers)


def _consumer(table: object, number: int) -> Consumer:
    if not isinstance(table, dict):
        raise InvalidValueError(f"consumer {number} must be a table: [[events.consumers]]")
    name = table.get("name")
    who = f"consumer {name}" if isinstance(name, str) and _NAME.fullmatch(name) else f"no. {number}"
    values: dict[str, Any] = {}
    for key, raw in table.items():
        kind = _KEYS.get(key)
        if kind is None:
            raise InvalidValueError(f"{who}: there is no {key!r}; there are {', '.join(_KEYS)}")
        try:
            values[key] = kind.from_toml(raw)
        except (ValueError, TypeError) as error:
            shown = HIDDEN if key == "secret" else repr(raw)[:80]
            raise InvalidValueError(f"{who}: {key} = {shown}: must be {kind.allowed}") from error
    if "name" not in values:
        raise InvalidValueError(f"{who} needs a name")
    given = [key for key in _TARGETS if key in values]
    if len(given) != 1:
        raise InvalidValueError(f"{who} needs one of {', '.join(_TARGETS)}")
    wrong = [key for key in _OF_WEBHOOK if key in values and given != ["webhook"]]
    if wrong:
        raise InvalidValueError(f"{who}: {wrong[0]} is for a webhook")
    if "secret" in values and "secret_file" in values:
        raise InvalidValueError(f"{who}: secret and secret_file are both set; keep one")
    for key in ("secret_file", "ca"):
        if key in values and not values[key].is_absolute():
            raise InvalidValueError(f"{who}: {key} must be an absolute path")
    if values.get("command") == () or values.get("kinds") == ():
        empty = "command" if values.get("command") == () else "kinds"
        raise InvalidValueError(f"{who}: {empty} is empty")
    if "availability" in values and not set(_OF_AVAILABILITY).issuperset(
        values.setdefault("kinds", _OF_AVAILABILITY)
    ):
        raise InvalidValueError(f"{who}: availability is about {', '.join(_OF_AVAILABILITY)} only")
    own = {key: values[key] for key in _OWN if key in values}
    return Consumer(name=values["name"], target=_target(values), **own)


def _target(values: Mapping[str, Any]) -> Target:
    if "command" in values:
        return ProgramTarget(values["command"])
    if "python" in values:
        return PythonFunction(values["python"])
    if "availability" in values:
        return Availability(values["availability"])
    others = {key: values[key] for key in _OF_WEBHOOK if key in values}
    return Webhook(url=values["webhook"], **others)


def _to_toml(consumer: Consumer) -> str:
    values: dict[str, object] = {"name": consumer.name}
    match consumer.target:
        case Webhook() as webhook:
            values["webhook"] = webhook.url
            if webhook.secret:
                values["secret"] = HIDDEN
            values |= {
                key: getattr(webhook, key)
                for key in ("secret_file", "ca")
                if getattr(webhook, key) is not None
            }
        case ProgramTarget(argv):
            values["command"] = argv
        case PythonFunction(entry_point):
            values["python"] = entry_point
        case Availability(ae_title):
            values["availability"] = ae_title
    values |= {key: getattr(consumer, key) for key in _OWN}
    pairs = (f"{key} = {_KEYS[key].to_toml(value)}" for key, value in values.items())
    return f"{{ {', '.join(pairs)} }}"


@dataclass(frozen=True, slots=True)
class QuietKind:
    """Seconds by modality."""

    allowed: str = "a table from modality to seconds above 0, like { US = 300, CR = 30 }"

    def from_toml(self, value: object) -> dict[str, float]:
        """A table."""
        if not isinstance(value, dict):
            raise TypeError
        if not all(re.fullmatch(r"[A-Z0-9_ ]{1,16}", key) for key in value):
            raise ValueError
        parts = (
            kinds.Part(key, seconds, _SECONDS.allowed, partial(_SECONDS.from_toml, seconds))
            for key, seconds in value.items()
        )
        return dict(zip(value, kinds.each(parts), strict=True))

    def from_text(self, text: str) -> dict[str, float]:
        """``US=300,CR=30``."""
        pairs = (item.partition("=") for item in text.split(",") if item.strip())
        return self.from_toml({key.strip(): float(seconds) for key, _, seconds in pairs})

    def to_toml(self, value: object) -> str:
        """An inline table."""
        assert isinstance(value, Mapping)
        pairs = ", ".join(
            f"{kinds.toml_string(k)} = {_SECONDS.to_toml(v)}" for k, v in value.items()
        )
        return f"{{ {pairs} }}" if pairs else "{}"
