"""SOP classes of what AI services answer with."""

from __future__ import annotations

from typing import Final

_ROOT: Final = "1.2.840.10008.5.1.4.1.1."
#: Basic, Enhanced, Comprehensive and Comprehensive 3D; CAD of breast, chest and colon.
REPORTS: Final = frozenset(
    _ROOT + rest for rest in ("88.11", "88.22", "88.33", "88.34", "88.50", "88.65", "88.69")
)
#: Segmentation, of surfaces, and of label maps.
SEGMENTATIONS: Final = frozenset(_ROOT + rest for rest in ("66.4", "66.5", "66.7"))
PRESENTATION_STATES: Final = frozenset(f"{_ROOT}11.{number}" for number in range(1, 13))
KEY_OBJECT_SELECTIONS: Final = frozenset((_ROOT + "88.59",))
RESULT_CLASSES: Final = REPORTS | SEGMENTATIONS | PRESENTATION_STATES | KEY_OBJECT_SELECTIONS
