"""Rules that change attributes of an object while it arrives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import DataSetError
from isocenter.engine.dimse.status import Status
from isocenter.engine.limits import Limits
from isocenter.services.archive.coercion.coercer import Coercer, CoercionError, Edit
from isocenter.services.archive.object_scan import (
    StoreError,
)
from isocenter.services.archive.rules.conditions import Sender
from isocenter.services.archive.rules.evaluation import Rules
from isocenter.services.dicom.attribute_path import TagOrPath


class Coercion:
    """One object on its way in, and what rules change of it.

    All methods raise `StoreError`: C000H when it is no data set, or none that can be changed,
    A700H when it passes a limit.

    Args:
        system: Modifying System (0400,0563).
    """

    __slots__ = ("_came", "_coercer", "_rules", "_sender")

    def __init__(
        self,
        rules: Rules,
        sender: Sender,
        transfer_syntax_uid: str,
        *,
        system: str,
        limits: Limits,
        undeclared: tuple[str, ...] = (),
    ) -> None:
        self._rules = rules
        self._sender = sender
        self._came: Mapping[int, str] = {}
        self._coercer = Coercer(
            transfer_syntax_uid,
            self._decide,
            rules.head_tags,
            system=system,
            source=sender.calling_ae_title,
            now=lambda: datetime.now().astimezone(),
            limits=limits,
            undeclared=undeclared,
        )

    @property
    def has_changed(self) -> bool:
        """Whether the object is another one now."""
        return bool(self._coercer.changed)

    @property
    def held(self) -> int:
        """Bytes of memory that are held, about."""
        return self._coercer.held

    def feed(self, buffers: Sequence[Buffer]) -> Sequence[Buffer]:
        """What goes on of the next pieces; use it before their memory is used again."""
        try:
            return [out for data in buffers for out in self._coercer.feed(data)]
        except DataSetError as error:
            raise StoreError.of_data_set(error) from error
        except CoercionError as error:
            raise StoreError(Status.CANNOT_UNDERSTAND, str(error)) from error

    def finish(self) -> Sequence[Buffer]:
        """What was held to the end."""
        try:
            return self._coercer.finish()
        except DataSetError as error:
            raise StoreError.of_data_set(error) from error
        except CoercionError as error:
            raise StoreError(Status.CANNOT_UNDERSTAND, str(error)) from error

    def original_values(self, places: Mapping[TagOrPath, str]) -> Mapping[TagOrPath, str]:
        """What rules look at: *places* are of the object as it is now."""
        head_tags = self._rules.head_tags
        came = {place: text for place, text in places.items() if place not in head_tags}
        came.update(self._came.items())
        return came

    def _decide(self, head: Mapping[int, str]) -> Sequence[Edit]:
        self._came = head
        return self._rules.edits(self._sender, dict(head.items()))
