"""Performed procedure step manager: creation and change of steps, whoever asks for it.

A step is durable when a method returns; notifications of it are queued in the same transaction
(`isocenter.services.service_classes.normalized.report_delivery`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from time import time
from typing import Final

from isocenter.engine.dimse.status import Status
from isocenter.engine.limits import Limits
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.errors import OperationError
from isocenter.services.notices import Caller, PerformedStepChanged
from isocenter.services.service_classes.mpps.performed_step import (
    PerformedStep,
    step_after_set,
    step_of_create,
)
from isocenter.services.service_classes.mpps.ports import Steps

PATIENT_NAME: Final = 0x00100010
PATIENT_ID: Final = 0x00100020

log = logging.getLogger("isocenter.operation")


class PerformedStepManager:
    """Creates and changes steps by the rules of PS3.4 F.7.2.

    Args:
        strict: refuse steps also for type 2 attributes that are missing.
        notify: AE titles that get N-EVENT-REPORTs of the notification SOP class.
        on_change: called when a notification is due.
        now: seconds since 1970.
    """

    def __init__(
        self,
        steps: Steps,
        *,
        strict: bool = False,
        notify: Sequence[str] = (),
        on_change: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time,
    ) -> None:
        self._steps = steps
        self._strict = strict
        self._notify = tuple(notify)
        self._on_change = on_change
        self._now = now

    async def create(
        self,
        sop_instance_uid: str,
        attributes: AttributeList,
        *,
        source: str,
        as_ae_title: str,
        limits: Limits,
    ) -> PerformedStep:
        """Keep a new step.

        Args:
            source: who creates it.
            as_ae_title: by which name of ours those who are notified know us.

        Raises:
            StepError: as of `step_of_create`.
            OperationError: 0111H: there is one with its UID.
        """
        step = step_of_create(
            sop_instance_uid,
            attributes,
            source_ae_title=source,
            now=self._now(),
            strict=self._strict,
            limits=limits,
        )
        if not await self._steps.create(step, notify=self._notify, as_ae_title=as_ae_title):
            raise OperationError(Status.DUPLICATE_SOP_INSTANCE)
        self._changed(step)
        return step

    async def change(
        self,
        sop_instance_uid: str,
        changes: AttributeList,
        *,
        as_ae_title: str,
        limits: Limits,
    ) -> PerformedStep:
        """Give a step other attributes; arguments as of `create`.

        Raises:
            StepError: as of `step_after_set`.
            OperationError: 0112H: there is no such step.
        """
        now = self._now()

        def change(step: PerformedStep) -> PerformedStep:
            return step_after_set(step, changes, now=now, strict=self._strict, limits=limits)

        try:
            step = await self._steps.change(
                sop_instance_uid, change, notify=self._notify, as_ae_title=as_ae_title
            )
        except KeyError:
            raise OperationError(Status.NO_SUCH_SOP_INSTANCE) from None
        self._changed(step)
        return step

    async def get(self, sop_instance_uid: str) -> PerformedStep | None:
        """A step; None: there is none."""
        return await self._steps.get(sop_instance_uid)

    def _changed(self, step: PerformedStep) -> None:
        log.info("performed procedure step %s: %s", step.sop_instance_uid, step.state.value)
        if self._notify:
            self._on_change()


def change_of(step: PerformedStep, caller: Caller, *, is_new: bool) -> PerformedStepChanged:
    """What is told of a step that was created or changed."""
    return PerformedStepChanged(
        caller=caller,
        sop_instance_uid=step.sop_instance_uid,
        state=step.state.value,
        study_instance_uids=tuple(
            dict.fromkeys(each.study_instance_uid for each in step.scheduled)
        ),
        series_instance_uids=tuple(each.series_instance_uid for each in step.series),
        is_new=is_new,
        patient_id=step.attributes.text(PATIENT_ID),
        patient_name=step.attributes.text(PATIENT_NAME),
    )
