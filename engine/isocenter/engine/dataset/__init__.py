"""Data sets as bytes (PS3.5, PS3.10): scanned, read, written, re-encoded; no object model.

Standard library only, and no I/O.  pydicom is what users of Isocenter get to work
with; this package is what the server itself needs, on its hot paths, of a data set.
"""

from isocenter.engine.dataset.encoding_detection import guess_encoding, is_syntax_certain
from isocenter.engine.dataset.errors import DataSetError, DataSetLimitError
from isocenter.engine.dataset.file_head import FileHead, NotDicomError, read_file_head
from isocenter.engine.dataset.file_meta import (
    FILE_HEAD_LENGTH,
    FileMeta,
    read_file_meta,
    write_file_meta,
)
from isocenter.engine.dataset.frame_index import Frame, FrameIndex, index_frames
from isocenter.engine.dataset.inflate import Inflater
from isocenter.engine.dataset.pixel_data import FragmentTable, PixelDataElement, PixelDataMap, Span
from isocenter.engine.dataset.pixel_data_mapper import map_of, map_pixel_data
from isocenter.engine.dataset.reader import Element, Fragments, Item, Value, read_data_set
from isocenter.engine.dataset.reencode import Reencoder, Survey
from isocenter.engine.dataset.scanner import ElementScanner, ScannedItem, ScannedValue
from isocenter.engine.dataset.stray_meta import StrayMetaFilter
from isocenter.engine.dataset.transcoder import VrOf
from isocenter.engine.dataset.vr import (
    DANGEROUS_GROUPS,
    DEFLATED_LITTLE,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    Encoding,
    encoding_of,
)
from isocenter.engine.dataset.writer import (
    WritableElement,
    WritableItem,
    WritableValue,
    write_data_set,
)

__all__ = [
    "DANGEROUS_GROUPS",
    "DEFLATED_LITTLE",
    "EXPLICIT_BIG",
    "EXPLICIT_LITTLE",
    "FILE_HEAD_LENGTH",
    "IMPLICIT_LITTLE",
    "DataSetError",
    "DataSetLimitError",
    "Element",
    "ElementScanner",
    "Encoding",
    "FileHead",
    "FileMeta",
    "FragmentTable",
    "Fragments",
    "Frame",
    "FrameIndex",
    "Inflater",
    "Item",
    "NotDicomError",
    "Reencoder",
    "PixelDataElement",
    "PixelDataMap",
    "ScannedItem",
    "ScannedValue",
    "Span",
    "StrayMetaFilter",
    "Survey",
    "Value",
    "VrOf",
    "WritableElement",
    "WritableItem",
    "WritableValue",
    "encoding_of",
    "guess_encoding",
    "index_frames",
    "is_syntax_certain",
    "map_of",
    "map_pixel_data",
    "read_data_set",
    "read_file_head",
    "read_file_meta",
    "write_data_set",
    "write_file_meta",
]
