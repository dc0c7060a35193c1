"""Films on paper: CUPS hands them to an IPP printer."""

from __future__ import annotations

from pathlib import Path

import pytest

from interop.test_print import GRAY, Printer
from services.service_classes.print.samples import gray_item, pattern
from support.cups import PROGRAMS, ipp_printer, print_server, public_folder
from support.ports import free_port
from support.processes import served_archive, wait_for_line, wait_until

pytestmark = [
    pytest.mark.interop(*PROGRAMS),
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]
LAYOUT = {"ImageDisplayFormat": "STANDARD\\1,1", "MagnificationType": "NONE"}


def test_films_come_out_of_an_ipp_printer_when_its_queue_is_there(tmp_path: Path) -> None:
    films, config = tmp_path / "prints", tmp_path / "isocenter.toml"
    config.write_text(
        f'[print]\nenabled = true\noutputs = ["pdf", "queue"]\nqueue = "film"\n'
        f'directory = "{films}"\nlongest_retry = 0.5\n[web]\nenabled = false\n'
    )
    queue, paper = free_port(), free_port()
    run_by = ("env", f"CUPS_SERVER=127.0.0.1:{queue}")
    with (
        public_folder() as folder,
        served_archive(tmp_path, "--config", config, run_by=run_by) as archive,
    ):
        printer = Printer(archive.port, GRAY)
        job = printer.print([gray_item(pattern(80, 60))], copies=2, **LAYOUT)
        printer.association.release()
        # Nobody is there yet who would take it.
        wait_for_line(
            archive.process, rf"print job {job} waits .* queue: lp: exit code 1", archive.log
        )
        made = (films / f"{job}.pdf").read_bytes()
        with (
            ipp_printer(folder / "printer", paper) as sheets,
            print_server(folder / "cups", queue, paper),
        ):
            name = f"*{job.replace('.', '_')}.pdf"
            wait_until(
                lambda: [sheet.read_bytes() for sheet in sheets.glob(name)] == [made],
                archive.process,
            )
            told = (folder / "printer" / "printer.log").read_text()
            assert f"job-name (nameWithoutLanguage) {job}" in told
            assert "copies (integer) 2" in told
