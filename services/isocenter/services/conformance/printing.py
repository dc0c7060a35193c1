"""Print management in the conformance statement (PS3.2 N.7.3.2.8, PS3.4 H)."""

from __future__ import annotations

from collections.abc import Iterator

from isocenter.services.dicom.film.display_format import MAX_BOXES
from isocenter.services.dicom.film.film import ANNOTATIONS, FILM_SIZES, Magnification, TooLarge
from isocenter.services.service_classes.print.film_session import MAX_COPIES
from isocenter.services.settings.settings import Settings
from isocenter.services.web.description.document import Block, Heading, Paragraph, Table


def printing(settings: Settings) -> Iterator[Block]:
    """What the printer prints, and how."""
    wanted = settings.print
    printer = wanted.described(has_annotations=True)
    yield Heading("4.2.7", "Print management")
    yield Paragraph(
        "Film sessions are of the association that created them, one at a time, and gone with it; "
        "print jobs are not. N-ACTION is performed on film boxes and on film sessions, whose films "
        "are one job; it is answered when the job is durable. N-EVENT-REPORTs of print jobs and of "
        "the printer are sent while the association stands, on it, and never later. With any "
        f"Annotation Display Format ID a film box has {ANNOTATIONS} annotation boxes: 1 to 3 at "
        "its top, from left to right, 4 to 6 at its bottom."
    )
    yield Table(
        ("Attribute", "Values"),
        [
            ("Image Display Format", ("STANDARD\\C,R, ROW\\R1,R2 …, COL\\C1,C2 …; up to "
             f"{MAX_BOXES} image boxes; SLIDE, SUPERSLIDE and CUSTOM\\i are refused (0106H)")),
            ("Film Size ID", f"{', '.join(FILM_SIZES)}; default {wanted.film_size}"),
            ("Film Orientation", "PORTRAIT (default), LANDSCAPE"),
            ("Requested Resolution ID", (f"STANDARD (default; {printer.dots_per_inch} dots per "
             f"inch), HIGH ({2 * printer.dots_per_inch})")),
            ("Magnification Type", (f"{', '.join(each.value for each in Magnification)}; default "
             "BILINEAR; Smoothing Type is ignored")),
            ("Requested Decimate/Crop Behavior", ", ".join(each.value for each in TooLarge)),
            ("Min Density, Max Density", f"{printer.lowest} to {printer.highest} (B605H beyond)"),
            ("Border Density, Empty Image Density", "BLACK (default), WHITE, or a number"),
            ("Polarity", "NORMAL (default), REVERSE"),
            ("Trim", "YES, NO (default)"),
            ("Presentation LUT", ("IDENTITY (default), LIN OD, or a table of 8 to 16 bits; for "
             "MONOCHROME1 and REVERSE what it gives is turned around")),
            ("Bits Allocated, Stored", ("8 or 16, any number stored; 8 in colour, by plane or "
             "pixel")),
            ("Number of Copies", f"1 (default) to {MAX_COPIES}"),
            ("Print Priority", "HIGH, MED (default), LOW: the order of jobs"),
            ("Medium Type, Film Destination", "any; kept with the job"),
        ],
    )  # fmt: skip
    yield Table(
        ("Bound", "Value"),
        [
            ("Film boxes of a film session", f"{wanted.max_films:,}"),
            ("Pixels of a film", f"{wanted.max_film_pixels:,}"),
            ("Bytes of an image box", f"{wanted.max_image_bytes:,}"),
            ("Bytes of all images", f"{wanted.memory_bytes:,}"),
            ("Jobs that wait", f"{wanted.max_jobs:,}"),
            ("Outputs", ", ".join(each.value for each in wanted.outputs) or "none"),
        ],
    )
