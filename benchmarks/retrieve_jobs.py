"""What a retrieve job costs beside DCMTK's getscu, from DCMTK's dcmqrscp.

Run it from the repository::

    PYTHONPATH=engine:services:storage python benchmarks/retrieve_jobs.py [--objects N] [--rounds N]

Fills a dcmqrscp with N CT images (1,000; 512 by 512 pixels of 16 bits) and has them fetched: by
``getscu`` into a folder, which keeps what comes and promises nothing, and by ``isocenter retrieve
--wait`` into a new archive, which counts each object, indexes it, and has it durable before it
answers.  Both take turns; the best round of each counts.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ct_image import PIXELS, ct_image, part_10
from peers.servers import Place, _dcmqrscp
from peers.wire import CALLED

from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.cli import main as isocenter

STUDY = "1.2.826.0.1.3680043.8.498.77"


def fill(folder: Path, count: int, study: str = STUDY) -> None:
    """Files of one study."""
    folder.mkdir()
    pixels = bytes(PIXELS)
    for number in range(count):
        one = ct_image()
        one.StudyInstanceUID, one.SeriesInstanceUID = study, f"{study}.1"
        one.SOPInstanceUID, one.InstanceNumber = f"{study}.1.{number}", str(number)
        content = part_10(one, EXPLICIT_VR_LITTLE_ENDIAN, pixels)
        (folder / f"{number}.dcm").write_bytes(content)


def by_getscu(port: int, folder: Path) -> int:
    """How many came."""
    folder.mkdir()
    subprocess.run(
        [
            "getscu", "-aec", CALLED, "-S", "-k", "QueryRetrieveLevel=STUDY",
            "-k", f"StudyInstanceUID={STUDY}", "-od", str(folder), "127.0.0.1", str(port),
        ],
        check=True,
    )  # fmt: skip
    return len(list(folder.iterdir()))


def by_job(port: int, folder: Path) -> int:
    """How many came; the archive is made before the clock runs."""
    where = ["--data-dir", str(folder)]
    assert isocenter(["retrieve", "N", "--study", STUDY, "--wait", "-q", *where]) == 0
    return len(list((folder / "objects").rglob("*.dcm"))) - 1


def prepared(port: int, folder: Path, first: Path) -> None:
    """A new archive that has one object of another study, and knows the node."""
    where = ["--data-dir", str(folder)]
    assert isocenter(["import", str(first), "-q", *where]) == 0
    assert isocenter(["node", "add", f"{CALLED}@127.0.0.1:{port}", "--name", "N", *where]) == 0


def main(words: Sequence[str]) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder / "in", arguments.objects)
        fill(folder / "other", 1, f"{STUDY}9")
        (folder / "peer").mkdir()
        port = arguments.port or _free_port()
        command = _dcmqrscp(_place(folder / "peer", port))
        with subprocess.Popen([str(word) for word in command]) as peer:
            try:
                time.sleep(1.0)
                assert isocenter(["storescu", f"{CALLED}@127.0.0.1:{port}", "-q",
                                  str(folder / "in")]) == 0  # fmt: skip
                best = {"getscu": float("inf"), "isocenter retrieve": float("inf")}
                for turn in range(arguments.rounds):
                    place = folder / f"archive{turn}"
                    prepared(port, place, folder / "other")
                    for what, fetch, into in (
                        ("getscu", by_getscu, folder / f"got{turn}"),
                        ("isocenter retrieve", by_job, place),
                    ):
                        began = time.perf_counter()
                        came = fetch(port, into)
                        best[what] = min(best[what], time.perf_counter() - began)
                        assert came == arguments.objects, f"{what}: {came}"
                        shutil.rmtree(into)
            finally:
                peer.terminate()
    for what, seconds in best.items():
        print(f"{what:20} {arguments.objects / seconds:8.0f} objects/s {seconds:8.2f} s")
    print(f"ratio {best['getscu'] / best['isocenter retrieve']:.2f}")


def _free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _place(folder: Path, port: int) -> Place:
    return Place(folder=folder, port=port, destination=port)


if __name__ == "__main__":
    main(sys.argv[1:])
