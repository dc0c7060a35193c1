"""Small data sets as pydicom data sets, bounded before pydicom sees them."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import DataSetError, encoding_of, read_data_set
from isocenter.engine.dataset.inflate import Inflater
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.services.dicom.data_dictionary import DICTIONARY_SEQUENCES

if TYPE_CHECKING:
    import pydicom


def read_identifier(
    identifier: Buffer, transfer_syntax_uid: str, limits: Limits = DEFAULT_LIMITS
) -> pydicom.Dataset:
    """An identifier, or another small data set, as a pydicom data set.

    Raises:
        DataSetError: truncated, malformed, or over a limit.
    """
    from pydicom.filereader import read_dataset

    encoding = encoding_of(transfer_syntax_uid)
    # Bounds size and nesting before pydicom, which has no bounds, sees it.
    read_data_set(identifier, encoding, limits, DICTIONARY_SEQUENCES)
    data = bytes(identifier)
    if encoding.deflated:
        data = b"".join(Inflater(limits).feed(data))
    try:
        return read_dataset(
            BytesIO(data), encoding.implicit_vr, not encoding.big_endian, bytelength=len(data)
        )
    except Exception as error:
        # pydicom raises whatever its parts do; to the caller it is one fault.
        raise DataSetError(f"pydicom cannot read it ({type(error).__name__})", 0) from error
