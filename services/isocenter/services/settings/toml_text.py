"""Settings as TOML that can be loaded again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from isocenter.services.settings import value_types as kinds
from isocenter.services.settings.settings import SETTINGS, Setting, Settings

#: In the place of a secret.
HIDDEN: Final = "(hidden)"


def as_tuple(value: object) -> tuple[object, ...]:
    """The value of a setting that is a list."""
    assert isinstance(value, tuple)
    return value


def show(settings: Settings) -> str:
    """The settings as TOML that can be loaded again; secrets and what is not set are comments."""
    lines: list[str] = []
    # A key of the document itself has to stand before the first table.
    for setting in sorted(SETTINGS, key=lambda setting: "." in setting.key):
        section, _, name = setting.key.partition(".")
        value: object = getattr(settings, section)
        if not name:
            lines += _shown_list(setting, value)
            continue
        if f"[{section}]" not in lines:
            lines += ["", f"[{section}]"]
        value = getattr(value, name)
        if value is None:
            lines.append(f"# {name} is not set")
        elif setting.is_secret:
            lines.append(f"# {name} = {HIDDEN}")
        else:
            lines.append(f"{name} = {setting.kind.to_toml(value)}")
    return "\n".join(lines).strip("\n") + "\n"


def _shown_list(setting: Setting, value: object) -> Sequence[str]:
    """One line per item; peers can be many."""
    assert isinstance(setting.kind, kinds.ListOf)
    items = as_tuple(value)
    if not items:
        return [f"{setting.key} = []"]
    return [
        f"{setting.key} = [",
        *(f"    {setting.kind.kind.to_toml(item)}," for item in items),
        "]",
    ]
