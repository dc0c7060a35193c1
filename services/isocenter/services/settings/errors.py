"""Errors of settings: which, its value, its source, what is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError

#: More of them in one message help nobody.
_MOST_FAULTS: Final = 50


class SettingsError(IsocenterError):
    """A setting that cannot be: which, its value, where it came from, and what is allowed.

    Attributes:
        key: ``section.name``; empty where the fault is of a whole file.
        source: the file, ``environment variable X`` or ``option --x``.
    """

    error_code = ErrorCode.SETTINGS

    def __init__(
        self, key: str, source: str, fault: str, value: str | None = None, part: str = ""
    ) -> None:
        what = f"{key}, {part}" if part else key
        what = what if value is None else f"{what} = {value}"
        super().__init__(f"{what} ({source}): {fault}" if key else f"{source}: {fault}")
        self.key = key
        self.source = source

    @property
    def faults(self) -> tuple[SettingsError, ...]:
        """Each by itself."""
        return (self,)


class InvalidSettingsError(SettingsError):
    """More than one setting that cannot be; key and source are those of the first."""

    def __init__(self, faults: Sequence[SettingsError]) -> None:
        IsocenterError.__init__(self, self._text(faults))
        self.key, self.source = faults[0].key, faults[0].source
        self._faults = tuple(faults)

    @property
    def faults(self) -> tuple[SettingsError, ...]:
        """Each by itself."""
        return self._faults

    @staticmethod
    def _text(faults: Sequence[SettingsError]) -> str:
        lines = [f"{len(faults)} faults in the settings:", *map(str, faults[:_MOST_FAULTS])]
        if len(faults) > _MOST_FAULTS:
            lines.append(f"and {len(faults) - _MOST_FAULTS} more")
        return "\n  ".join(lines)
