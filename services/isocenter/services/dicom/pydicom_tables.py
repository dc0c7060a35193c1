"""Tables of pydicom that are read without the rest of it.

The data dictionary and the UIDs are plain tables in modules of their own.  `import pydicom` reads
numpy, Pillow and an HTTP client as well: a quarter of a second, and 30 MB in each worker of a
server that calls nothing of it.  Whoever imports pydicom before or after finds the same tables.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Final

#: VR, VM, name, "Retired" or nothing, keyword.
DictionaryEntry = tuple[str, str, str, str, str]
#: VR, VM, name, "Retired" or nothing.
PrivateEntry = tuple[str, str, str, str]


def _table(name: str) -> ModuleType:
    whole_name = f"pydicom.{name}"
    there = sys.modules.get(whole_name)
    if there is not None:
        return there
    package = find_spec("pydicom")
    folders = None if package is None else package.submodule_search_locations
    spec = PathFinder.find_spec(whole_name, folders)
    if spec is None or spec.loader is None:
        return import_module(whole_name)  # which says what is missing
    module = module_from_spec(spec)
    sys.modules[whole_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[whole_name]
        raise
    return module


#: Tag → entry of the data dictionary (PS3.6 6).
ELEMENTS: Final[dict[int, DictionaryEntry]] = _table("_dicom_dict").DicomDictionary
#: Tag in eight digits, ``x`` for those that repeat → entry: overlays and curves (PS3.5 7.6).
REPEATING_ELEMENTS: Final[dict[str, DictionaryEntry]] = _table("_dicom_dict").RepeatersDictionary
#: UID → name, type, information, "Retired" or nothing, keyword (PS3.6 A).
UIDS: Final[dict[str, DictionaryEntry]] = _table("_uid_dict").UID_dictionary


@cache
def private_elements() -> dict[str, dict[str, PrivateEntry]]:
    """Private creator → tag in eight digits, ``xx`` for the block → entry; large, so read late."""
    tables: dict[str, dict[str, PrivateEntry]] = _table("_private_dict").private_dictionaries
    return tables
