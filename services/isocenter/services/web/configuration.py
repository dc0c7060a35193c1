"""Port of the settings of a running server, which are shown and changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from isocenter.engine.fast_init import dataclass
from isocenter.services.notices import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownSetting:
    """A setting, for people and programs.

    Attributes:
        key: ``section.name``, or the name of a list of tables: ``rules``.
        text: what it is for.
        allowed: what it may be, completing "must be …".
        value, default: as JSON has it; None: not set; of a secret never the value itself.
        source: who set it: a line of a file, a variable, an option, somebody who changed it while
            the server ran; ``default``.
        is_changed: it was changed while the server ran, and can be put back.
        fixed_by: the variable or option that wins over any change; empty: it can be changed.
        is_secret: it is set by files and variables only.
        is_of_machine: it is set on the machine only; it may be put back.
        needs_restart: a change is in use after a restart only.
        is_pending: what is in use is another value, until a restart.
        former: keys that it had before, and may still be asked for by.
    """

    key: str
    text: str
    allowed: str
    value: Any
    default: Any
    source: str
    is_changed: bool = False
    fixed_by: str = ""
    is_secret: bool = False
    is_of_machine: bool = False
    needs_restart: bool = False
    is_pending: bool = False
    former: tuple[str, ...] = ()

    @property
    def can_be_changed(self) -> bool:
        """Whether somebody may change it while the server runs."""
        return not (self.fixed_by or self.is_secret or self.is_of_machine)


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingFault:
    """What is wrong with a value; *text* names it, what was said, and what it may be."""

    key: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedNow:
    """What has come of a change.

    Attributes:
        applied: the keys that are in use now.
        after_restart: those that are kept, and wait for a restart.
    """

    applied: tuple[str, ...]
    after_restart: tuple[str, ...]


class InvalidChangeError(Exception):
    """A change that cannot be; nothing has changed.

    Attributes:
        faults: all that is wrong with it.
    """

    def __init__(self, faults: Sequence[SettingFault]) -> None:
        super().__init__("; ".join(one.text for one in faults))
        self.faults = tuple(faults)


class Configuration(Protocol):
    """The settings of a running server."""

    async def settings(self) -> Sequence[ShownSetting]:
        """All of them, as they are now, in the order of their reference.

        Raises:
            InvalidChangeError: what they come from cannot be read.
        """
        ...

    async def change(
        self,
        values: Mapping[str, Any],
        by: Caller,
        check: Callable[[Sequence[ShownSetting]], None] = lambda settings: None,
    ) -> ChangedNow:
        """Check, keep, apply and tell a change of some.

        Args:
            values: by key, as JSON has them; None: what it would be had nobody changed it.
            check: gets them as they are when nobody else can change them any more; what it raises
                ends the change.

        Raises:
            InvalidChangeError: they cannot be, or cannot be used; nothing has changed.
        """
        ...
