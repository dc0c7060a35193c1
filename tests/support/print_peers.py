"""DCMTK's printer and print spooler, configured for a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isocenter.engine.fast_init import dataclass
from support.ports import free_port
from support.processes import program, wait_for_port

#: What DCMTK's printers.cfg says of a printer with everything that it knows of.
_ABILITIES = """
BorderDensity = 150\\20\\BLACK\\WHITE
DisableNewVRs = false
DisplayFormat=1,1\\1,2\\2,2\\3,3\\3,4
EmptyImageDensity = 20\\BLACK\\WHITE
FilmDestination = MAGAZINE\\PROCESSOR\\BIN_1\\BIN_2
FilmSizeID = 8INX10IN\\14INX17IN
ImplicitOnly  = false
MagnificationType = REPLICATE\\BILINEAR\\CUBIC\\NONE
MaxDensity = 300
MaxPDU = 32768
MediumType = PAPER\\CLEAR FILM\\BLUE FILM
MinDensity = 20
OmitSOPClassUIDFromCreateResponse = false
PresentationLUTMatchRequired = false
PresentationLUTinFilmSession = false
ResolutionID = STANDARD\\HIGH
SmoothingType = NONE
Supports12Bit = true
SupportsDecimateCrop = true
SupportsImageSize = true
SupportsPresentationLUT = true
SupportsTrim = true
Annotation = 2\\ANNOTATION
SessionLabelAnnotation = true
"""


@dataclass(frozen=True, slots=True)
class PrintFiles:
    """Configuration and database of DCMTK's print programs.

    Attributes:
        port: of the printer that is called PRINTER there.
    """

    config: Path
    database: Path
    port: int

    def stored_prints(self) -> list[Path]:
        """Stored Print objects: films."""
        return sorted(self.database.glob("SP_*.dcm"))

    def hardcopies(self) -> list[Path]:
        """Hardcopy Grayscale objects: the images on them."""
        return sorted(self.database.glob("HG_*.dcm"))


def print_files(folder: Path, port: int, ae_title: str = "PRINTER") -> PrintFiles:
    """A configuration with one printer, on this machine."""
    for name in ("database", "spool", "log", "lut"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    database = folder / "database"
    config = folder / "dcmpstat.cfg"
    config.write_text(
        "[[GENERAL]]\n[APPLICATION]\n"
        f"LogDirectory = {folder / 'log'}\nLogFile = general.log\nLogLevel = DEBUG\n"
        f"[PRINT]\nSpooler = dcmprscu\nServer = dcmprscp\nDirectory = {folder / 'spool'}\n"
        "DetailedLog = true\nBinaryLog = false\nSleep = 1\nMinPrintResolution = 64\\64\n"
        "MaxPrintResolution = 8192\\8192\nDeletePrintJobs = false\n"
        f"[DATABASE]\nDirectory = {database}\n[LUT]\nDirectory = {folder / 'lut'}\n"
        "[NETWORK]\naetitle = DCMPSTATE\n"
        "[[COMMUNICATION]]\n"
        f"[PRINTER]\nAetitle = {ae_title}\nDescription = Printer\nHostname = localhost\n"
        f"Port = {port}\nType = LOCALPRINTER\n{_ABILITIES}"
    )
    return PrintFiles(config, database, port)


@contextmanager
def dcmprscp(folder: Path) -> Iterator[PrintFiles]:
    """DCMTK's printer, AE title PRINTER: keeps films as Stored Print objects."""
    port, log = free_port(), folder / "dcmprscp.log"
    files = print_files(folder, port)
    with program("dcmprscp", "-v", "-c", files.config, "-p", "PRINTER", log=log) as process:
        wait_for_port(process, port, log)
        yield files
