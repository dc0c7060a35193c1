"""Parts for tests of programs that use Isocenter, and of Isocenter itself.

What is here is real: an association runs the engine and the services over bytes in memory, and the
archive is the one that `isocenter serve --data-dir :memory:` has.

    async with open_test_archive() as archive, associated(
        [StorageScp(archive)], [(CT_IMAGE_STORAGE, BASIC_SYNTAXES)]
    ) as association:
        await association.store(SyntheticData().ct())
"""

from __future__ import annotations

from isocenter.services.testing.archives import open_test_archive
from isocenter.services.testing.associations import associated, served
from isocenter.services.testing.clocks import patient_clock
from isocenter.services.testing.recorded_log import RecordedLog
from isocenter.services.testing.synthetic_data import SyntheticData, SyntheticPatient

__all__ = [
    "RecordedLog",
    "SyntheticData",
    "SyntheticPatient",
    "associated",
    "open_test_archive",
    "patient_clock",
    "served",
]
