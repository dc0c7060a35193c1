"""Settings of print management."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from isocenter.engine.ae import is_ae_title
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.film.density import DEFAULT_MAX_DENSITY, DEFAULT_MIN_DENSITY
from isocenter.services.dicom.film.film import FILM_SIZES
from isocenter.services.service_classes.print.printer import Printer
from isocenter.services.service_classes.print.scope import PrintLimits
from isocenter.services.settings import value_types as kinds
from isocenter.services.settings.field import MIB, seconds, setting

_MOST_DOTS = 600
_MOST_DENSITY = 1_000


class PrintOutput(Enum):
    """Where films go."""

    PDF = "pdf"
    PNG = "png"
    ARCHIVE = "archive"
    QUEUE = "queue"
    PRINTER = "printer"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrintSettings:
    """Print management (PS3.4 Annex H): films that others print here.

    It needs the extra `codecs`; texts beside the images need `labels`.
    """

    enabled: bool = setting(False, kinds.Boolean(), "be a printer, and print studies from the web")
    outputs: tuple[PrintOutput, ...] = setting(
        (PrintOutput.PDF,),
        kinds.ListOf(kinds.Choice(PrintOutput)),
        "where each job goes: files in print.directory (pdf: one for each job; png: one for each "
        "film), archive: a Secondary Capture for each film; queue: a printer of CUPS; "
        "printer: a DICOM printer; none: films are only kept for the page of print jobs",
    )
    directory: Path | None = setting(
        None, kinds.FilePath(), "folder for files of films (default: prints in the data directory)"
    )
    queue: str = setting(
        "",
        kinds.Text("the name of a print queue", lambda text: text.isprintable()),
        "queue of CUPS (lpstat -e lists them; empty: the default one)",
    )
    printer: str = setting(
        "",
        kinds.Text("an AE title of [[peers]]", lambda text: not text or is_ae_title(text)),
        "DICOM printer that films are printed on; it must be in [[peers]]",
    )
    printer_name: str = setting(
        "ISOCENTER",
        kinds.Text(
            "a name of up to 64 ASCII characters",
            lambda text: 0 < len(text) <= 64 and text.isascii() and text.isprintable(),
        ),
        "what the printer is called",
    )
    dots_per_inch: int = setting(
        150,
        kinds.Integer(36, _MOST_DOTS),
        "how fine films are; twice as fine where HIGH resolution is asked for",
    )
    film_size: str = setting(
        "8INX10IN", kinds.one_of(*FILM_SIZES), "size of films where nobody says"
    )
    min_density: int = setting(
        DEFAULT_MIN_DENSITY, kinds.Integer(0, _MOST_DENSITY), "of white, in hundredths of OD"
    )
    max_density: int = setting(
        DEFAULT_MAX_DENSITY, kinds.Integer(1, _MOST_DENSITY), "of black, in hundredths of OD"
    )
    workers: int = setting(
        1,
        kinds.Integer(1, 256),
        "processes that compose films, beside those of transcoding.workers",
    )
    max_films: int = setting(50, kinds.Integer(1, 1_000), "films of one film session")
    max_film_pixels: int = setting(
        100_000_000, kinds.Integer(1 << 16, 1 << 30), "pixels of one film"
    )
    max_image_bytes: int = setting(
        128 * MIB, kinds.Integer(1 << 16, 1 << 31, "bytes"), "one image, with its attributes"
    )
    memory_bytes: int = setting(
        512 * MIB,
        kinds.Integer(1 << 20, 1 << 40, "bytes"),
        "images of all film sessions together, per worker of the server; more get C605H",
    )
    max_jobs: int = setting(
        1_000,
        kinds.Integer(1, 1_000_000),
        "jobs that wait for their printing; more get C601H or C602H",
    )
    longest_retry: float = seconds(
        900.0, "longest interval between two attempts of a job; the first are shorter"
    )
    give_up_after: float = setting(
        86_400.0, kinds.Seconds(365 * 86_400.0), "time until a job has failed"
    )
    keep_days: int = setting(
        30,
        kinds.Integer(1, 3_650, "days", zero="for ever"),
        "days after which jobs that are over are removed, with their films",
    )

    def described(self, *, has_annotations: bool) -> Printer:
        """The printer that these settings describe."""
        return Printer(
            name=self.printer_name,
            dots_per_inch=self.dots_per_inch,
            lowest=self.min_density,
            highest=self.max_density,
            size=self.film_size,
            has_annotations=has_annotations,
        )

    def limits(self) -> PrintLimits:
        """What whoever prints may take."""
        return PrintLimits(
            films=self.max_films,
            image_bytes=self.max_image_bytes,
            memory_bytes=self.memory_bytes,
            film_pixels=self.max_film_pixels,
        )
