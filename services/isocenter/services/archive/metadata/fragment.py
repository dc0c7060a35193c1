"""Fragment: the metadata of one instance as DICOM JSON, without its URL.

Where the URL of the instance belongs stands `URL_MARK`, which JSON text has nowhere else.  So a
fragment is the same whatever the server is called.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import Any, Final

from isocenter.engine.dataset import DataSetError
from isocenter.engine.dataset.walker import Tolerance
from isocenter.services.archive.metadata.header import Header
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.dicom.bulk_data import BulkValue
from isocenter.services.dicom.json_writer import json_of
from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.layout import ImageLayout

#: A control character, which JSON has escaped only.
URL_MARK: Final = b"\x01"
_RETRIEVE_URL: Final = 0x00081190
_AVAILABLE_TRANSFER_SYNTAX: Final = 0x00083002
#: What deflate looks back to.
_DICTIONARY_BYTES: Final = 32 << 10
_LEVEL: Final = 6
_MARK: Final = URL_MARK.decode()
#: As it is written; in what a data set says, quotation marks are escaped.
_URI: Final = b'"BulkDataURI":"/bulkdata/'
_URI_OF_INSTANCE: Final = b'"BulkDataURI":"' + URL_MARK + b"/bulkdata/"


def fragment_of(header: Header, stored: StoredInstance) -> bytes:
    """The metadata of one instance: a JSON object in ascending order of tags.

    Retrieve URL (0008,1190) and Available Transfer Syntax UID (0008,3002) are ours; what the
    object says there is left out.

    Raises:
        DataSetError: it cannot be read at all.
    """
    instead = {
        _RETRIEVE_URL: f'"00081190":{{"vr":"UR","Value":["{_MARK}"]}}',
        _AVAILABLE_TRANSFER_SYNTAX: (
            f'"00083002":{{"vr":"UI","Value":["{stored.transfer_syntax_uid}"]}}'
        ),
    }
    if header.pixel_vr:
        name = f"{header.pixel_tag:08X}"
        instead[header.pixel_tag] = (
            f'"{name}":{{"vr":"{header.pixel_vr}","BulkDataURI":"{_MARK}/bulkdata/{name}"}}'
        )
    text = json_of(
        header.data, header.encoding, bulk=_uri, tolerance=Tolerance.SALVAGE, instead=instead
    )
    return text.replace(_URI, _URI_OF_INSTANCE)


def _uri(value: BulkValue) -> str:
    return f"/bulkdata/{value.path_text}"


def layout_of(header: Header, stored: StoredInstance) -> bytes:
    """The packed layout of an image; empty: it is none, or its frames cannot be told apart."""
    if header.found is None:
        return b""
    try:
        return ImageLayout.of(header.found, stored.transfer_syntax_uid).pack()
    except (DataSetError, ImageError):
        return b""


def with_url(fragment: bytes, url: str) -> bytes:
    """A fragment as it is sent; *url*: of its instance."""
    return fragment.replace(URL_MARK, url.encode("ascii"))


def dictionary_of(fragment: bytes) -> bytes:
    """What the fragments of a series are compressed by, of one of them: they differ in little."""
    return fragment[-_DICTIONARY_BYTES:]


def pack_fragment(fragment: bytes, dictionary: bytes) -> bytes:
    """A fragment in few bytes."""
    deflater = zlib.compressobj(
        _LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_DEFAULT_STRATEGY,
        dictionary,
    )  # fmt: skip
    return deflater.compress(fragment) + deflater.flush()


def unpack_fragment(packed: bytes, dictionary: bytes) -> bytes:
    """What `pack_fragment` has made, with the same dictionary."""
    found: bytes = _inflater(dictionary).copy().decompress(packed)
    return found


@lru_cache(maxsize=4)
def _inflater(dictionary: bytes) -> Any:
    return zlib.decompressobj(-zlib.MAX_WBITS, dictionary)
