"""DICOM files as inputs of the file tools, opened leniently."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from isocenter.engine.dataset import DataSetError, NotDicomError
from isocenter.engine.dataset.walker import Tolerance
from isocenter.services.cli.files.file_tool import (
    FileToolError,
    InputFile,
    OtherFileKindError,
    opened,
)
from isocenter.services.cli.support.terminal import Terminal
from isocenter.services.dicom.data_set_file import DataSetFile, open_data_set


@contextmanager
def dicom_input(
    file: InputFile, terminal: Terminal, tolerance: Tolerance = Tolerance.SALVAGE
) -> Iterator[DataSetFile]:
    """The data set of *file*, while the block works on it.

    What was forgiven, and what the block adds to `DataSetFile.forgiven`, is told at its end.

    Raises:
        OtherFileKindError: it is no DICOM.
        FileToolError, OSError: it cannot be read; also where the block says so by a `DataSetError`.
    """
    with opened(file.path) as source:
        try:
            with open_data_set(source, tolerance=tolerance) as data_set:
                yield data_set
                forgiven = data_set.forgiven
        except NotDicomError:
            raise OtherFileKindError("not DICOM: neither a Part 10 file nor a data set") from None
        except DataSetError as error:
            is_strict = tolerance is Tolerance.STRICT
            cure = "; without --strict it is read as far as it goes" if is_strict else ""
            raise FileToolError(f"{error}{cure}") from error
    for what, offset in forgiven.items():
        terminal.note(f"{file.path}: forgiven: {what}" + (f" (at byte {offset})" if offset else ""))
