"""Audit records of settings and policy that a command changes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

from isocenter.engine.errors import IsocenterError
from isocenter.services.composition.audit import active_process_of, record_now
from isocenter.services.errors import StorageError
from isocenter.services.security.audit.alert_messages import configuration_changed
from isocenter.services.settings.sections.monitoring import OnAuditFailure
from isocenter.services.settings.settings import Settings

T = TypeVar("T")


class RecordedChanges:
    """Has each change recorded, before it is made where it may then be left undone.

    Args:
        settings: whose audit trail it is.
        command: its name, for the trail.
        name: of what is changed: ``settings``, ``policy`` or ``certificates``.
    """

    def __init__(self, settings: Settings, command: str, name: str) -> None:
        self._settings = settings
        self._here = active_process_of(settings, command)
        self._name = name

    def of(self, edit: Callable[[T], T], what: str) -> Callable[[T], T]:
        """*edit*, told in the trail in the words of *what* when it can be made.

        It raises `StorageError` where the trail cannot be written, and the settings say ``stop``:
        then nothing is changed.
        """

        def recorded(before: T) -> T:
            after = edit(before)
            self._record(what)
            return after

        return recorded

    def tell(self, what: str) -> None:
        """Have a change recorded that is made, and cannot be taken back.

        Raises:
            StorageError: the trail cannot be written, and the settings say ``stop``.
        """
        self._record(what, "it is done all the same")

    def _record(self, what: str, otherwise: str = "nothing was changed") -> None:
        message = configuration_changed(self._here, self._name, what)
        try:
            record_now(self._settings, self._here, [message])
        except (OSError, IsocenterError) as error:
            fault = f"the audit trail cannot be written: {error}"
            if self._settings.audit.on_failure is OnAuditFailure.STOP:
                raise StorageError(f"{fault}; {otherwise}") from error
            print(f"{fault}; it is changed all the same", file=sys.stderr)
