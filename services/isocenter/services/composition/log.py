"""The log of a server, by its settings."""

from __future__ import annotations

from isocenter.services.settings.sections.monitoring import LogFormat, LogSettings
from isocenter.services.system import log_format
from isocenter.services.system.log_file import LogFile


def configure_log(settings: LogSettings) -> None:
    """Send what the program logs to standard error, or to a file.

    Raises:
        OSError: the file cannot be opened; everything stays as it was.
    """
    file: LogFile | None = None
    if settings.file is not None:
        file = LogFile(settings.file, rotate_bytes=settings.rotate, keep=settings.keep_files)
    log_format.configure(settings.level.value, as_json=settings.format is LogFormat.JSON, file=file)
