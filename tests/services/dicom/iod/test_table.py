"""What the table of the information object definitions costs whoever asks it first."""

from __future__ import annotations

import tracemalloc

from isocenter.services.dicom.iod.table import iod_table


def test_reading_the_table_holds_little_more_than_the_table() -> None:
    iod_table.cache_clear()
    tracemalloc.start()
    try:
        table = iod_table()
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert table.sop_classes
    assert peak < held + 4 * 1024 * 1024
