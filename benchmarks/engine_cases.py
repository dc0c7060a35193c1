"""What `engine.py` gives to both sides: the same values, objects and bytes."""

from __future__ import annotations

from typing import Final

from ct_image import ct_file
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AllStoragePresentationContexts

VERIFICATION: Final = "1.2.840.10008.1.1"
CT: Final = str(CTImageStorage)
EXPLICIT: Final = str(ExplicitVRLittleEndian)
IMPLICIT: Final = str(ImplicitVRLittleEndian)
#: What each context proposes: uncompressed, JPEG lossless, JPEG 2000 lossless, RLE.
TRANSFER_SYNTAXES: Final = (
    EXPLICIT,
    IMPLICIT,
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.5",
)
ABSTRACT_SYNTAXES: Final = tuple(
    str(context.abstract_syntax) for context in AllStoragePresentationContexts[:128]
)
MAX_PDU_LENGTH: Final = 131_072
SMALL: Final = bytes(12_000)
LARGE: Final = bytes(512 << 10)
#: What framing is measured with.
STREAM: Final = bytes(8 << 20)
#: What one read of a socket brings.
CHUNK: Final = 256 << 10
#: Message IDs and instances of a series: no two requests are the same, as on the wire.
INSTANCES: Final = tuple(
    (number, f"1.3.12.2.1107.5.1.4.50000.30000024013110111200000{number:03}")
    for number in range(1, 257)
)
FILES: Final = {syntax: ct_file(syntax) for syntax in (EXPLICIT, IMPLICIT)}
