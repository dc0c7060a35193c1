"""Regions of the body that descriptions of studies and steps speak of."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Final

#: Words, as departments write them, without accents, by region.
_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "head": ("head", "brain", "skull", "cranium", "cranial", "kopf", "schadel", "hirn", "ncct"),
    "neck": ("neck", "hals", "carotid", "carotis", "thyroid", "cervical", "hws"),
    "chest": ("chest", "thorax", "thoracic", "lung", "lungs", "lunge", "cxr", "rib", "ribs"),
    "heart": ("heart", "cardiac", "coronary", "cor", "herz"),
    "breast": ("breast", "mamma", "mammo", "mammography", "mammographie"),
    "abdomen": ("abdomen", "abdominal", "abd", "liver", "leber", "kidney", "niere", "pancreas"),
    "pelvis": ("pelvis", "pelvic", "becken", "prostate", "prostata", "uterus", "bladder"),
    "spine": ("spine", "spinal", "lumbar", "sacral", "wirbelsaule", "lws", "bws", "myelon"),
    "shoulder": ("shoulder", "schulter", "clavicle", "scapula"),
    "arm": ("arm", "elbow", "ellenbogen", "humerus", "forearm", "radius", "ulna"),
    "hand": ("hand", "wrist", "handgelenk", "finger", "thumb"),
    "hip": ("hip", "hufte", "femur"),
    "knee": ("knee", "knie", "patella"),
    "leg": ("leg", "tibia", "fibula", "unterschenkel"),
    "foot": ("foot", "fuss", "ankle", "sprunggelenk", "toe", "calcaneus"),
}
_REGIONS: Final = {word: region for region, words in _WORDS.items() for word in words}
_WORD: Final = re.compile(r"[a-z]+")


def regions_in(text: str) -> frozenset[str]:
    """The regions that a description speaks of; none where it names none that is known."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(each for each in plain if not unicodedata.combining(each))
    return frozenset(_REGIONS[word] for word in _WORD.findall(plain) if word in _REGIONS)
