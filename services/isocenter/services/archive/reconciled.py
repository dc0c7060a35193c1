"""Notice of a patient reconciled, or of the attempt."""

from __future__ import annotations

from dataclasses import field

from isocenter.engine.fast_init import dataclass
from isocenter.services.notices import WingNotice


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientReconciled(WingNotice):
    """Another system has demanded that a patient be updated, merged or linked.

    Attributes:
        kind: ``update``, ``merge``, ``move study``, ``link`` or ``unlink``.
        actor: the system.
        message: which message of it.
        outcome: ``done``, ``nothing to do`` or ``failed``.
        instances: objects for which it holds.
        fault: why it failed; it shows no value.
    """

    kind: str
    patient_id: str = field(repr=False)
    other_patient_id: str = field(default="", repr=False)
    actor: str
    message: str
    outcome: str
    instances: int = 0
    fault: str = ""
