"""Reader of DICOM JSON (PS3.18 Annex F), bounded in size and depth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from isocenter.services.dicom.model_reader import Model, ModelError, NumberText

#: Bytes of a JSON text.  Ten times as much is held while it is read.
MAX_JSON_LENGTH: Final = 256 << 20
_BOM: Final = b"\xef\xbb\xbf"


def read_json(text: bytes) -> list[Model]:
    """The data sets of a JSON text: an object is one, an array any number.

    Raises:
        ModelError: it is too long, no JSON, or something else than data sets.
    """
    if len(text) > MAX_JSON_LENGTH:
        raise ModelError(
            f"longer than {MAX_JSON_LENGTH >> 20} MiB; keep bulk data in files of its own "
            "(BulkDataURI)"
        )
    try:
        found = json.loads(
            text.removeprefix(_BOM).decode("utf-8"),
            object_pairs_hook=_object,
            parse_float=NumberText,
            parse_int=NumberText,
            parse_constant=_constant,
        )
    except UnicodeDecodeError as error:
        raise ModelError(f"no UTF-8 (at byte {error.start})") from None
    except RecursionError:
        raise ModelError("nested too deep") from None
    except json.JSONDecodeError as error:
        raise ModelError(
            f"no JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        ) from None
    models = found if isinstance(found, list) else [found]
    if not all(isinstance(model, dict) for model in models):
        raise ModelError("no data set: expected an object of attributes, or an array of such")
    return models


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        # Readers disagree about which one counts.
        raise ModelError("a name is there twice in one object")
    return found


def _constant(text: str) -> NumberText:
    return NumberText(text)
