"""Project of de-identification: a profile, a key, and whom it is for."""

from __future__ import annotations

from pathlib import Path

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.deidentification.pixel_cleaning import PixelOptions
from isocenter.services.dicom.deidentification.profile import Profile
from isocenter.services.net.addresses import is_network


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """How objects are de-identified for somebody.

    Attributes:
        name: in settings, in the mapping and in the log.
        destinations: AE titles, and hosts of web services, that are given nothing but de-identified
            objects, and are answered with nothing else.
        roles, addresses: of the policy, and of networks, whose callers are the same.
        key_file: with the key; None: one that is made, in the data directory.
        weekdays: whether dates are moved by whole weeks.
        base, pixel_rules: what *profile* and *pixels* were made of.
        days: by how many dates are moved, of every patient; None: made with the key.
    """

    name: str
    profile: Profile = Profile()
    pixels: PixelOptions = PixelOptions()
    destinations: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    key_file: Path | None = None
    weekdays: bool = False
    days: int | None = None
    uid_root: str = "2.25"
    base: str = "basic"
    pixel_rules: str = ""

    @property
    def networks(self) -> tuple[str, ...]:
        """Where those are whom it is for: *addresses*, and *destinations* that are addresses."""
        return (*self.addresses, *filter(is_network, self.destinations))
