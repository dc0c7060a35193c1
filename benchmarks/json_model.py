"""What it costs to write the CT headers of a series as DICOM JSON, beside pydicom.

Run it from the repository::

    PYTHONPATH=engine:services python benchmarks/json_model.py

Prints microseconds per data set (the best of many) and the ratio, for both encodings.
"""

from __future__ import annotations

import io
import itertools
import platform
import sys
import time
from collections.abc import Callable, Iterator

import pydicom
from ct_image import ct_file
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from isocenter.engine.dataset import Encoding, encoding_of, read_file_meta
from isocenter.services.dicom.bulk_data import left_out
from isocenter.services.dicom.json_writer import json_of

CALLS = 400
#: Images of one series: each has a few values of its own.
IMAGES = 40


def series(syntax: UID) -> list[bytes]:
    files = []
    for number in range(1, IMAGES + 1):
        ds = pydicom.dcmread(io.BytesIO(ct_file(syntax)))
        ds.SOPInstanceUID = f"{ds.SeriesInstanceUID[:40]}.{number}"
        ds.InstanceNumber = number
        ds.SliceLocation = f"{number * 1.25:.2f}"
        ds.ImagePositionPatient = [f"{-120.5:.1f}", f"{-99.25:.2f}", f"{number * 1.25:.2f}"]
        ds.ContentTime = ds.AcquisitionTime = f"1011{number:02d}.{number:06d}"
        buffer = io.BytesIO()
        ds.save_as(buffer)
        files.append(buffer.getvalue())
    return files


def microseconds(*calls: Callable[[], object]) -> list[float]:
    """The best of each: what the code costs, not what the machine was doing besides.

    They take turns, so that a slow minute is one for all.
    """
    best = [float("inf")] * len(calls)
    for _ in range(CALLS):
        for number, call in enumerate(calls):
            started = time.perf_counter()
            call()
            best[number] = min(best[number], time.perf_counter() - started)
    return [one * 1e6 for one in best]


def main() -> None:
    out = sys.stdout
    out.write(f"Python {platform.python_version()}, pydicom {pydicom.__version__}\n")
    for name, syntax in (
        ("explicit VR", ExplicitVRLittleEndian),
        ("implicit VR", ImplicitVRLittleEndian),
    ):
        files = series(syntax)
        encoding = encoding_of(str(syntax))
        ours_next = itertools.cycle([one[read_file_meta(one).data_set_offset :] for one in files])
        theirs_next = itertools.cycle(files)

        def ours_one(
            following: Iterator[bytes] = ours_next, encoding: Encoding = encoding
        ) -> object:
            return json_of(next(following), encoding, bulk=left_out)

        def theirs_one(following: Iterator[bytes] = theirs_next) -> object:
            file = io.BytesIO(next(following))
            return pydicom.dcmread(file, stop_before_pixels=True).to_json()

        ours, pydicoms = microseconds(ours_one, theirs_one)
        out.write(f"JSON of a CT header, {name}: ours {ours:8.1f} µs\n")
        out.write(f"JSON of a CT header, {name}: pydicom {pydicoms:8.1f} µs\n")
        out.write(f"ratio {pydicoms / ours:.1f}\n")


if __name__ == "__main__":
    main()
