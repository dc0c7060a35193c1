"""What it costs to write a CT header as DICOM JSON, beside pydicom, which reads it first.

Run it from the repository::

    PYTHONPATH=engine:services python benchmarks/json_model.py

Prints microseconds per data set (the best of many) and the ratio, for both encodings.
"""

from __future__ import annotations

import io
import platform
import sys
import time
from collections.abc import Callable

import pydicom
from ct_image import ct_file
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from isocenter.engine.dataset import encoding_of, read_file_meta
from isocenter.services.dicom.bulk_data import left_out
from isocenter.services.dicom.json_writer import json_of

CALLS = 400


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
        file = ct_file(syntax)
        data_set = file[read_file_meta(file).data_set_offset :]
        encoding = encoding_of(str(syntax))

        def theirs(file: bytes = file) -> object:
            return pydicom.dcmread(io.BytesIO(file), stop_before_pixels=True).to_json()

        ours, pydicoms = microseconds(
            lambda data_set=data_set, encoding=encoding: json_of(data_set, encoding, bulk=left_out),
            theirs,
        )
        out.write(f"JSON of a CT header, {name}: ours {ours:8.1f} µs\n")
        out.write(f"JSON of a CT header, {name}: pydicom {pydicoms:8.1f} µs\n")
        out.write(f"ratio {pydicoms / ours:.1f}\n")


if __name__ == "__main__":
    main()
