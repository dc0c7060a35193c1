"""Takes pictures of every page of a served archive: ``assets/pages/`` and ``reference/pages.md``.

    python docs/screenshots.py

It makes an archive of synthetic patients, serves it, and visits all that the navigation leads to,
what a study can be asked for, and one of each kind of thing that a list leads to, in a wide light
window and in a narrow dark one.  It needs Chromium, playwright and Pillow.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

DOCS = Path(__file__).resolve().parent
PICTURES = DOCS / "assets" / "pages"
PAGE = DOCS / "reference" / "pages.md"
ISOCENTER = (sys.executable, "-m", "isocenter.services.cli")
#: Of the wide picture as it is kept, in pixels; the narrow one is kept as it is shown.
WIDTH, NARROW, TALLEST = 880, 400, 1_400
QUALITY = 55
#: Run in a process of its own: Isocenter replaces parts of asyncio, on which the driver of the
#: browser runs.  It prints the first study and series.
_MAKE = """
import json, sys
from pathlib import Path
from isocenter.services.testing import SyntheticData
folder = Path(sys.argv[1])
data = SyntheticData(rows=256, columns=256)
for study, modality in enumerate(("CT", "MR", "CR", "CT", "MR"), 1):
    images = data.study(study, modality=modality, series=2, instances=4)
    data.write(folder / "files" / str(study), images)
orders = [data.worklist_entry(number) for number in range(10, 14)]
(folder / "orders.json").write_text(json.dumps(orders))
for study in range(1, 6):
    print(data.ct(study).StudyInstanceUID)
print(data.ct().SeriesInstanceUID)
"""
_HEAD = """\
<!-- Made by `python docs/screenshots.py`. -->

# Pages

The pages of an archive with synthetic patients: wide and light, and narrow and dark, as on a
phone. First all that the navigation leads to, then what a study can be asked for, then one of each
kind of thing that lists lead to. Nodes and services of this archive do not answer, so the pages
show that, too. What one does with them is in
[your archive in a browser](../tutorial/browser.md) and [the browser](../how-to/browser.md).
"""


def isocenter(*words: object) -> None:
    """A command of ours."""
    subprocess.run(  # noqa: S603 - our own program
        [*ISOCENTER, *map(str, words)], check=True, capture_output=True
    )


#: Nobody listens at port 9: what services and nodes that are away look like is on the pages.
_SETTINGS = """
[[peers]]
ae_title = "VIEWER"
host = "127.0.0.1"
port = 11113
[[rules]]
name = "CT to the viewer"
when = { modality = "CT" }
forward = ["VIEWER"]
[print]
enabled = true
outputs = ["pdf"]
[[ai_services]]
name = "lung"
url = "http://127.0.0.1:9/v1"
modalities = ["CT"]
[sharing]
patient_authority = "1.3.6.1.4.1.99999.1"
wado_rs = "http://127.0.0.1:9/dicomweb"
[[sharing.repositories]]
name = "regional"
mhd = "http://127.0.0.1:9/fhir"
source_oid = "1.3.6.1.4.1.99999.9"
[tls]
enabled = false
[monitoring]
port = 0
[server]
port = 0
[web]
port = 0
"""
#: What links of the content of a page lead to, one of each kind, by a part of the address.
_KINDS = (
    "/patients/", "/worklist/", "/prints/", "/jobs/", "/nodes/", "/ai/", "/rules/", "/tasks/",
    "/quarantine/", "/rejections/", "/corrections/", "/users/", "/settings/", "/retention/",
    "/compare", "/send", "/instances/",
)  # fmt: skip
#: Of a study, in the order in which somebody would ask.
_OF_STUDY = (
    "share", "publish", "print", "ai", "correct", "delete", "quarantine", "reject", "hold",
)  # fmt: skip


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, str, str]]:
    """An archive with something on every page: where its pages are, and a study and a series."""
    made = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", _MAKE, str(folder)], check=True, capture_output=True, text=True
    )
    *studies, series = made.stdout.split()
    settings = folder / "isocenter.toml"
    settings.write_text(_SETTINGS)
    here = ("--config", settings, "--data-dir", folder / "data")
    with subprocess.Popen(  # noqa: S603 - our own program
        [*ISOCENTER, "serve", *map(str, here)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout is not None
        try:
            ready = next(line for line in server.stdout if line.startswith("ready "))
            ports = dict(re.findall(r"\b(dicom|http)://127\.0\.0\.1:(\d+)", ready))
            peer = f"ISOCENTER@127.0.0.1:{ports['dicom']}"
            isocenter("storescu", peer, folder / "files", "-aet", "CT_01")
            isocenter("worklist", "import", *here, folder / "orders.json")
            isocenter("mppsscu", peer, "create", "--patient-id", "SYN00010", "-aet", "CT_01")
            images = sorted(path for path in (folder / "files" / "1").rglob("*") if path.is_file())
            isocenter("printscu", peer, "print", *images, "-aet", "CT_01")
            isocenter("node", "add", *here, "ARCHIVE2@127.0.0.1:9")
            isocenter("task", "add", *here, "nightly", "verification", "daily 02:00")
            isocenter("share", "add", *here, "--for", "Dr. Synthetic", studies[0])
            isocenter("publish", *here, studies[0], "--to", "regional")
            why = ("--reason", "for the pictures", "--yes")
            isocenter("hold", "add", *here, "--reason", "a trial", studies[1])
            isocenter("quarantine", "add", *here, "--study", studies[3], *why)
            isocenter("delete", *here, "--study", studies[4], *why)
            isocenter(
                "correct", *here, "--study", studies[2], "--set", "StudyDescription=Chest", *why
            )
            yield f"http://127.0.0.1:{ports['http']}", studies[0], series
        finally:
            server.terminate()


def visit(browser: Any, url: str, study_uid: str, series_uid: str) -> list[tuple[str, str, str]]:
    """Heading, path and name of the picture of each page."""
    wide = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light")
    narrow = browser.new_page(viewport={"width": NARROW, "height": 700}, color_scheme="dark")
    study = f"/studies/{study_uid}"
    series = f"{study}/series/{series_uid}"
    waiting = ["/", study, series]
    later = [f"{study}/{action}" for action in _OF_STUDY]
    kinds = dict.fromkeys(_KINDS, "")
    seen: set[str] = set()
    found = []
    while waiting or later:
        if not waiting:
            waiting, later = later, [path for path in kinds.values() if path and path not in seen]
            later = [path for path in later if path not in waiting]
        path = waiting.pop(0)
        if path in seen:
            continue
        seen.add(path)
        answer = wide.goto(url + path)
        if answer.status != 200 or "html" not in answer.headers["content-type"]:
            continue
        waiting += [link for link in _links(wide, "nav") if "?" not in link and link not in seen]
        for link in _links(wide, "main"):
            led = next((one for one in _KINDS if one in link), "")
            if led and not kinds[led] and not link.endswith(".csv"):
                kinds[led] = link
        heading = wide.inner_text("h1") if wide.query_selector("h1") else path
        shown = path.replace(series_uid, "UID").replace(study_uid, "UID")
        kind = next((kind for kind, link in kinds.items() if link == path), "")
        name = _name_of(kind or shown.replace("/UID", ""), is_one=bool(kind))
        if path in (study, series):
            name = "study" if path == study else "series"
            heading = "A study" if path == study else "A series"
        narrow.goto(url + path)
        for page, size in ((wide, "wide"), (narrow, "narrow")):
            page.wait_for_load_state("networkidle")
            keep(page.screenshot(full_page=True), f"{name}-{size}", WIDTH)
        found.append((heading, _shown(shown, kind), name))
    return found


def _name_of(path: str, *, is_one: bool) -> str:
    """Of the pictures of a page, the same each time; *is_one*: of the things of a list."""
    words = re.sub(r"[^a-z]+", "-", path.lower()).strip("-") or "first"
    return f"{words}-one" if is_one else words


def _shown(path: str, kind: str) -> str:
    """An address without what differs each time."""
    path = re.sub(r"\b[0-9.]{9,}|\b[0-9a-f]{8,}\b|UID[.0-9]+", "UID", path)
    return path.partition("?")[0] if kind else path


def _links(page: Any, place: str) -> list[str]:
    """Of a part of a page, those within the archive."""
    links: list[str] = page.eval_on_selector_all(
        f"{place} a[href^='/']", "all => all.map(one => one.getAttribute('href'))"
    )
    return [link for link in links if "#" not in link and "/download" not in link]


def keep(picture: bytes, name: str, width: int) -> None:
    image = Image.open(BytesIO(picture)).convert("RGB")
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)))
    image = image.crop((0, 0, image.width, min(image.height, TALLEST)))
    image.save(PICTURES / f"{name}.webp", quality=QUALITY, method=6)


def main() -> None:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "needs chromium (Debian: apt-get install chromium)"
    shutil.rmtree(PICTURES, ignore_errors=True)
    PICTURES.mkdir(parents=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        served(Path(folder)) as where,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        pages = visit(browser, *where)
        browser.close()
    lines = [_HEAD]
    for heading, path, name in pages:
        lines += [
            f"## {heading}\n\n`{path}`\n",
            f"![{heading}, wide](../assets/pages/{name}-wide.webp)",
            f"![{heading}, narrow](../assets/pages/{name}-narrow.webp)\n",
        ]
    PAGE.write_text("\n".join(lines), "utf-8")


if __name__ == "__main__":
    main()
