"""Our five client commands against somebody else's archive: what every such test does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import pydicom

from support.corpus import by_uid, data_set_bytes
from support.ports import free_port
from support.processes import isocenter_command
from support.studies import ROOT

_UNIQUE = {"STUDY": "0020000D", "SERIES": "0020000E", "IMAGE": "00080018"}


@dataclass
class OurCommands:
    """How to reach the peer, and where the peer sends what is moved.

    Attributes:
        sent: the files that `store` sends: two studies of two series of two instances.
        move_port: where the peer believes that AE title MOVER listens.
        keeps_bytes: whether what comes back is what was sent, bit for bit.
    """

    ae_title: str
    port: int
    sent: Sequence[Path]
    move_port: int
    options: Sequence[object] = ()
    keeps_bytes: bool = True

    def __call__(self, command: str, *words: object) -> CompletedProcess[str]:
        aet = "MOVER" if command == "movescu" else "MODALITY"
        return isocenter_command(
            command, f"{self.ae_title}@127.0.0.1:{self.port}", "-aet", aet, *self.options, *words
        )

    def check_echo(self) -> None:
        done = self("echoscu", "-v")
        assert done.returncode == 0, done.stdout

    def check_store(self) -> None:
        done = self("storescu", *self.sent)
        assert done.returncode == 0, done.stdout

    def check_find(self) -> None:
        """Both studies by wild card, and everything of one, level by level."""
        for level, keys, expected in (
            ("STUDY", ["-k", "StudyInstanceUID"], 2),
            ("STUDY", ["-k", f"StudyInstanceUID={ROOT}.2"], 1),
            ("SERIES", ["-k", f"StudyInstanceUID={ROOT}.1", "-k", "SeriesInstanceUID"], 2),
            (
                "IMAGE",
                ["-k", f"StudyInstanceUID={ROOT}.1", "-k", f"SeriesInstanceUID={ROOT}.1.2",
                 "-k", "SOPInstanceUID"],
                2,
            ),
        ):  # fmt: skip
            done = self("findscu", "-S", "-L", level, *keys, "-o", "json")
            assert done.returncode == 0, done.stdout
            unique = _UNIQUE[level]
            found = {match[unique]["Value"][0] for match in json.loads(done.stdout)}
            assert len(found) == expected, done.stdout

    def check_get(self, folder: Path) -> None:
        """One study, whole and bit for bit."""
        done = self("getscu", "-S", "-L", "STUDY", "--study-uid", f"{ROOT}.1", "-od", folder)
        assert done.returncode == 0, done.stdout
        self._same(folder, f"{ROOT}.1")

    def check_move(self, folder: Path) -> None:
        """One study to a receiver of our own, whole and bit for bit."""
        done = self(
            "movescu", "-S", "-L", "STUDY", "--study-uid", f"{ROOT}.2", "-aem", "MOVER",
            "--port", self.move_port, "-od", folder,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        self._same(folder, f"{ROOT}.2")

    def check_unknown_destination(self) -> None:
        """A801 becomes exit code 1 and a line that says what is wrong."""
        done = self("movescu", "-S", "-L", "STUDY", "--study-uid", f"{ROOT}.2", "-aem", "NOWHERE")
        assert done.returncode == 1, done.stdout
        assert "A801" in done.stdout

    def check_nothing_listens(self) -> None:
        """One line, exit code 2."""
        done = isocenter_command("echoscu", f"{self.ae_title}@127.0.0.1:{free_port()}")
        assert done.returncode == 2
        assert "connection refused" in done.stdout
        assert len(done.stdout.splitlines()) == 1

    def _same(self, folder: Path, study: str) -> None:
        wanted = {
            uid: path
            for uid, path in by_uid(list(self.sent)).items()
            if pydicom.dcmread(path, specific_tags=["StudyInstanceUID"]).StudyInstanceUID == study
        }
        came = by_uid(sorted(folder.rglob("*.dcm")))
        assert came.keys() == wanted.keys()
        for uid, path in wanted.items():
            if self.keeps_bytes:
                assert data_set_bytes(came[uid]) == data_set_bytes(path), uid
            else:
                assert pydicom.dcmread(came[uid]) == pydicom.dcmread(path), uid
