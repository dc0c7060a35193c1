"""Orders of invented patients."""

from __future__ import annotations

from isocenter.services.service_classes.worklist.entry import Entry
from isocenter.services.service_classes.worklist.order_fields import entry_of_order


def order(number: int = 1, **changes: object) -> dict[str, object]:
    """A whole order."""
    return {
        "step_id": f"SPS{number}",
        "accession_no": f"A{number}",
        "patient_id": f"PAT{number}",
        "patient_name": "DOE^JANE",
        "birth_date": "19800229",
        "sex": "F",
        "modality": "CT",
        "station_ae": "CT_01",
        "station_name": "CT1",
        "scheduled_datetime": "20261124093000",
        "procedure_desc": "CT CHEST",
        "protocol_code": "CHEST1^99ISO^Chest with contrast",
        "referring_phys": "REFERRER^RITA",
        **changes,
    }


def entry(number: int = 1, **changes: object) -> Entry:
    """The entry of such an order."""
    return entry_of_order(order(number, **changes), "the entry")[0]
