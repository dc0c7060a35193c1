"""Profiles of de-identification: the standard's options, and what a site decides beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from enum import Enum
from typing import Final

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.deidentification.options import Option
from isocenter.services.dicom.deidentification.rules import Action


class ProfileError(IsocenterError, ValueError):
    """A profile that contradicts itself, or that nobody knows."""

    error_code = ErrorCode.DEIDENTIFICATION


class PrivatePolicy(Enum):
    """What becomes of private elements."""

    #: All go.
    REMOVE = "remove"
    #: Those stay that are known to be safe (PS3.15 E.3.10).
    SAFE = "safe"
    #: All go but the names of their creators.
    REMOVE_DATA = "remove_data"
    #: All stay: no profile of the standard any more.
    KEEP = "keep"


class DocumentPolicy(Enum):
    """What becomes of content that cannot be looked into: encapsulated documents, video."""

    #: Such an object is not de-identified.
    REFUSE = "refuse"
    #: An empty one is put in its place.
    REPLACE = "replace"
    #: It stays: for what is known to name nobody.
    KEEP = "keep"


class DatePolicy(Enum):
    """How dates are modified where the option wants it."""

    #: All of a patient by the same number of days.
    SHIFT = "shift"
    #: To the first of January.
    YEAR = "year"


@dataclass(frozen=True, slots=True)
class CustomRule:
    """What a site decides of one attribute, wherever it stands.

    Attributes:
        value: of `Action.REPLACE`.
    """

    action: Action
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How objects are de-identified.

    Attributes:
        name: for reports and (0012,0063); no value of a patient.
        custom: tag → what overrides the table.
        caps_ages: whether an age of 90 or more is said to be 90.
        patient_id, patient_name: for every patient; empty: a pseudonym made with the key.
    """

    name: str = "basic"
    options: frozenset[Option] = frozenset()
    private: PrivatePolicy = PrivatePolicy.REMOVE
    documents: DocumentPolicy = DocumentPolicy.REFUSE
    video: DocumentPolicy = DocumentPolicy.REFUSE
    dates: DatePolicy = DatePolicy.SHIFT
    caps_ages: bool = True
    custom: Mapping[int, CustomRule] = field(default_factory=dict)
    patient_id: str = ""
    patient_name: str = ""

    def check(self) -> None:
        """Raise `ProfileError` where it contradicts itself."""
        if {Option.FULL_DATES, Option.MODIFIED_DATES} <= self.options:
            raise ProfileError("dates are either retained in full or modified; choose one option")
        if self.video is DocumentPolicy.REPLACE:
            raise ProfileError("a video cannot be replaced by an empty one: refuse or keep it")


_PATIENT_NAME: Final = 0x00100010
_PATIENT_ID: Final = 0x00100020
_KEYED_HASH: Final = CustomRule(Action.HASH)

#: The profiles that have a name.
PROFILES: Final[Mapping[str, Profile]] = {
    profile.name: profile
    for profile in (
        Profile(),
        Profile(name="clean_pixel", options=frozenset([Option.PIXELS])),
        Profile(name="clean_descriptions", options=frozenset([Option.DESCRIPTORS])),
        Profile(name="retain_longitudinal", options=frozenset([Option.MODIFIED_DATES])),
        Profile(name="retain_patient_characteristics", options=frozenset([Option.PATIENT])),
        # 45 CFR 164.514 (b)(2): of dates the year stays, ages from 90 on are one.
        Profile(
            name="hipaa_safe_harbor",
            options=frozenset([Option.MODIFIED_DATES, Option.PATIENT, Option.DESCRIPTORS]),
            dates=DatePolicy.YEAR,
        ),
        # Regulation (EU) 2016/679, Article 4 (5): attributed to somebody only with a key that is
        # kept elsewhere.
        Profile(
            name="gdpr_compliant",
            options=frozenset([Option.MODIFIED_DATES]),
            custom={_PATIENT_NAME: _KEYED_HASH, _PATIENT_ID: _KEYED_HASH},
        ),
    )
}

_OPTION_NAMES: Final = {
    "pixel": Option.PIXELS, "full_dates": Option.FULL_DATES,
    "modified_dates": Option.MODIFIED_DATES, "structured_content": Option.STRUCTURED,
    "patient_characteristics": Option.PATIENT,
    "safe_private": Option.PRIVATE, "descriptions": Option.DESCRIPTORS,
}  # fmt: skip


def profile_named(name: str) -> Profile:
    """The profile of that name; ``-`` is as good as ``_``.

    Raises:
        ProfileError: there is none.
    """
    found = PROFILES.get(name.lower().replace("-", "_"))
    if found is None:
        raise ProfileError(f"no profile {name[:64]!r}: there are {', '.join(PROFILES)}")
    return found


def parse_option_names(names: Iterable[str]) -> frozenset[Option]:
    """The options that people name.

    Raises:
        ProfileError: one is none.
    """
    found = set()
    for name in names:
        key = name.strip().lower().replace("-", "_")
        try:
            found.add(_OPTION_NAMES.get(key) or Option(key))
        except ValueError:
            known = ", ".join(option.value for option in Option)
            raise ProfileError(f"no option {name[:64]!r}: there are {known}") from None
    return frozenset(found)
