"""De-identification in the conformance statement (PS3.15 E, which asks for it)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from isocenter.services.dicom.deidentification.device_rules import known_devices
from isocenter.services.dicom.deidentification.options import BASIC_PROFILE, Option
from isocenter.services.dicom.deidentification.rules import EDITION, attribute_rows
from isocenter.services.settings.settings import Settings
from isocenter.services.web.description.document import Block, Heading, Paragraph, Table

#: How each option is carried out, as PS3.15 E.3 wants to be told.
_MANNER: Final = {
    Option.PIXELS: "every frame is decoded and blackened where a rule for the device, or the "
    "regions of an ultrasound image, say so; recognized text is removed or refused as set up; an "
    "image that may name the patient and for which there is no rule is refused",
    Option.GRAPHICS: "words of the patient are removed from texts; overlays that are no regions "
    "of interest, and curves, are removed",
    Option.STRUCTURED: "content items are treated by concept and value type (Table E.3.4-1); "
    "texts of other concepts lose words of the patient",
    Option.DESCRIPTORS: "words of the patient, titles with names, dates, ages, telephone numbers, "
    "long numbers, addresses of mail and UIDs are removed from texts",
    Option.FULL_DATES: "dates and times stay",
    Option.MODIFIED_DATES: "all dates of a patient are moved by the same number of days, made "
    "with a key or set up, by whole weeks if wanted; or reduced to their year",
    Option.PATIENT: "ages of 90 and more become 90; texts are cleaned as descriptors are",
    Option.DEVICE: "retained as Table E.1-1 says",
    Option.UIDS: "retained; otherwise UIDs below 2.25 or a root of the site are made with a key",
    Option.PRIVATE: "elements of Table E.3.10-1, and what the object calls safe in (0008,0300)",
    Option.INSTITUTION: "retained as Table E.1-1 says",
}


def deidentification(settings: Settings) -> Iterator[Block]:
    """How objects are de-identified, and for whom."""
    yield Heading("7.1", "De-identification")
    yield Paragraph(
        f"De-identifier of the {BASIC_PROFILE[1]} ({EDITION}, {len(attribute_rows())} rows of "
        f"Table E.1-1) with these options; of {len(known_devices())} kinds of images the regions "
        "with names are known. "
        "Patient Identity Removed, De-identification Method and its codes, and Longitudinal "
        "Temporal Information Modified are set; originals can go along in the Encrypted Attributes "
        "Sequence (RSA, AES-256). Encapsulated documents and video are refused unless set up "
        "otherwise. Recognizable visual features are not removed."
    )
    yield Table(
        ("option", "code", "manner"),
        [(option.meaning, option.code, _MANNER[option]) for option in Option],
    )
    if settings.deidentification:
        yield Table(
            ("project", "options", "who is given nothing else, by DIMSE and by the web"),
            [
                (
                    project.name,
                    ", ".join(sorted(option.value for option in project.profile.options)),
                    ", ".join(
                        (
                            *project.destinations,
                            *(f"role {role}" for role in project.roles),
                            *project.addresses,
                        )
                    ),
                )
                for project in settings.deidentification
            ],
        )
