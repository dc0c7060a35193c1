"""Make a small data directory as one release leaves it, for the tests of those that follow.

    git archive TAG engine services storage | tar -x -C /tmp/old
    python tests/support/release_data.py /tmp/old tests/storage/data/0.1.0.tar.xz

It runs the programs of that checkout: objects, deletions of none, a worklist, a procedure step, a
commitment, what is queued for a peer that does not answer, events, the audit trail, a CA with a
certificate that is revoked, a policy and a user.  The patients are those of `support.studies`.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from support.studies import write_studies

CONFIG = """
[storage]
data_dir = "data"
[tls]
enabled = false
[monitoring]
enabled = false
[[peers]]
ae_title = "AWAY"
host = "127.0.0.1"
port = 9
[[rules]]
name = "everything"
when = {}
forward = ["AWAY"]
"""


def main(source: Path, target: Path) -> None:
    roots = [str(source / name) for name in ("engine", "services", "storage")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(roots)}
    environment.pop("ISOCENTER_CONFIG", None)
    words = [sys.executable, "-m", "isocenter.services.cli"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def run(*arguments: object, code: int = 0, text: str = "") -> str:
            done = subprocess.run(
                [*words, *map(str, arguments)], cwd=folder, env=environment, check=False,
                capture_output=True, text=True, input=text,
            )  # fmt: skip
            assert done.returncode == code, (arguments, done.stdout, done.stderr)
            return done.stdout

        (folder / "isocenter.toml").write_text(CONFIG)
        where = ("--config", "isocenter.toml")
        files = write_studies(folder / "files", studies=2, series=2, instances=2)
        run("certs", "init", *where)
        for ae_title in ("CT1", "CT2"):
            run("certs", "issue", ae_title.lower(), "--ae-title", ae_title, *where)
        run("certs", "revoke", "ct2", *where)
        (folder / "passcode").write_text("a passcode of no value\n")
        run("user", "add", "alice", "--role", "Radiologist", "--passcode-file", "passcode", *where)
        run(
            "worklist", "add", "step_id=SPS1", "accession_no=A9", "requested_proc_id=RP1",
            "patient_id=P9", "patient_name=Doe^John", "modality=CT", "station_ae=CT1",
            "scheduled_datetime=20260102093000", *where,
        )  # fmt: skip
        server = subprocess.Popen(
            [*words, "serve", *where, "--port", "0"], cwd=folder, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert server.stdout is not None
        port = ""
        for line in server.stdout:
            if match := re.match(r"ready dicom://127.0.0.1:(\d+)", line):
                port = match[1]
                break
        peer = f"ISOCENTER@127.0.0.1:{port}"
        try:
            run("storescu", peer, "-aet", "CT1", "files")
            entry = run("worklistscu", peer, "-aet", "CT1", "--station", "CT1", "-o", "json")
            (folder / "entry.json").write_text(entry)
            step = run("mppsscu", peer, "create", "--worklist", "entry.json", "-aet", "CT1").strip()
            run("commitscu", peer, "-aet", "CT1", files[0])
            run("findscu", peer, "-aet", "CT1", "-S", "-L", "STUDY", "-k", "StudyInstanceUID")
            run("ae", "add", "CT1", *where)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=60)
        facts = {
            "version": run("--version").split()[1],
            "objects": sorted(path.name for path in (folder / "data").rglob("*.dcm")),
            "step": step,
        }
        (folder / "data" / "facts.json").write_text(json.dumps(facts))
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:xz") as archive:
            archive.add(folder / "data", arcname="data")
        target.write_bytes(content.getvalue())
    print(f"{target}: {target.stat().st_size} bytes", facts)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
