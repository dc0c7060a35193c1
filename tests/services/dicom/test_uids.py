from __future__ import annotations

import uuid

from isocenter.engine.uid import is_uid
from isocenter.services.dicom.uids import new_uid


def test_new_uids_are_made_of_random_uuids_as_PS3_5_B_2_has_it():
    made = {new_uid() for _ in range(1_000)}

    assert len(made) == 1_000
    for each in made:
        root, _, number = each.rpartition(".")
        assert root == "2.25"
        assert uuid.UUID(int=int(number)).version == 4
        assert is_uid(each)
