"""A user's day in a browser, from the first start to the question who did it all.

``tox -e browser`` runs it without the viewer, ``tox -e ohif`` with it; elsewhere it is skipped.
"""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest

from browser import archive
from browser.archive import AXE, CT, FILES, SECONDS, VIEWER, Site, isocenter, paths
from ohif import objects

if not (AXE or VIEWER):
    pytest.skip("tox -e browser and tox -e ohif run it", allow_module_level=True)

from playwright.sync_api import Browser, Page, expect

USER, PASSCODE = "ada", "correct horse battery"
#: Studies in the folder: one in each file, and one of many slices.
COUNT = len(FILES) + 1
SCAN = f"/studies/{objects.CT}"

browser = archive.browser


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """An archive that was never started, with one user and, where it is given, the viewer."""
    data = ("--data-dir", tmp_path / "data")
    passcode = tmp_path / "passcode"
    passcode.write_text(PASSCODE)
    isocenter("certs", "init", *data)
    roles = ("--role", "Administrator", "--role", "Radiologist")
    added = isocenter("user", "add", USER, *roles, "--passcode-file", passcode, *data)
    assert added.returncode == 0, added.stderr
    if VIEWER:
        (tmp_path / "data/viewer").symlink_to(Path(VIEWER).resolve())
    config = tmp_path / "settings.toml"
    config.write_text(
        '[[rules]]\nname = "no comments"\ncoerce = [{ remove = "PatientComments" }]\n'
    )
    https = ("--https-host", "127.0.0.1", "--https-port", "0")
    with archive.served(tmp_path, "--config", config, *data, "--tls-port", "0", *https) as found:
        yield found


@pytest.fixture
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Another archive, which takes what it is sent."""
    folder = tmp_path_factory.mktemp("second")
    with archive.served(folder, "--data-dir", folder / "data", "--no-tls") as found:
        yield found


@pytest.fixture
def page(site: Site, browser: Browser) -> Iterator[Page]:
    """A new page; afterwards there was no error in it, and no request to anybody else."""
    with archive.new_page(site, browser, ignore_https_errors=True) as found:
        yield found


def test_a_day(site: Site, second: Site, page: Page, tmp_path: Path) -> None:
    first_start(page, site)
    upload_a_folder(page, tmp_path / "folder")
    find(page)
    look(page, site)
    open_in_the_viewer(page, site, "Viewer, Vera")
    correct_a_name(page, site)
    open_in_the_viewer(page, site, "Newman, Nora")
    merge_two_patients_and_take_it_back(page, site)
    delete_and_restore(page, site)
    send_to_another_archive(page, site, second)
    admit_a_refused_scanner(page, site)
    look_after_the_archive(page)
    try_the_rules_and_save_the_list(page, site)
    read_who_did_it_all(page, site)


def first_start(page: Page, site: Site) -> None:
    page.goto(site.url)
    page.get_by_label("Name").fill(USER)
    page.get_by_label("Passcode").fill(PASSCODE)
    page.locator("main form button").click()
    page.get_by_text("Nothing has arrived yet").wait_for()
    assert f"isocenter storescu {site.dicom} FILE" in page.inner_text("main")


def upload_a_folder(page: Page, folder: Path) -> None:
    """With something in it that is no DICOM."""
    folder.mkdir()
    for path in paths():
        shutil.copy(path, folder / path.name)
    slices = list(objects.ct())
    for one in slices:
        (folder / f"slice{one.InstanceNumber}.dcm").write_bytes(objects.written(one))
    (folder / "notes.txt").write_text("no DICOM")
    page.get_by_role("link", name="upload files").click()
    page.set_input_files("#folder", folder)
    page.locator("#state", has_text="done").wait_for()
    stored = len(FILES) + len(slices)
    assert page.inner_text("#state") == f"{stored} of {stored + 1} files stored, 1 not, done"
    assert "notes.txt" in page.inner_text("#failures")


def find(page: Page) -> None:
    go(page, "Studies")
    assert page.locator("tbody tr").count() == COUNT
    page.get_by_label("Modality").fill("mr")
    page.get_by_role("button", name="Find").click()
    page.get_by_role("link", name="CompressedSamples, MR1").first.wait_for()
    assert "modality=mr" in page.url


def look(page: Page, site: Site) -> None:
    """Frames by wheel and keys, contrast by dragging, attributes, the file."""
    moving = pydicom.dcmread(paths()[-1], stop_before_pixels=True)
    page.goto(f"{site.url}/studies/{moving.StudyInstanceUID}")
    page.locator(".series a").first.click()
    frames = int(moving.NumberOfFrames)
    page.locator("figcaption", has_text=f"1 / {frames}").wait_for()
    page.locator("figure").hover()
    page.mouse.wheel(0, 100)
    page.get_by_text(f"2 / {frames}").wait_for()
    page.locator("figure").focus()
    page.keyboard.press("End")
    page.get_by_text(f"{frames} / {frames}").wait_for()
    page.locator(f"figure img[src*='/frames/{frames}/rendered']").wait_for()

    page.goto(f"{site.url}{CT}")
    page.locator(".series a").first.click()
    box = page.locator("figure").bounding_box()
    assert box is not None
    with page.expect_response(re.compile("/metadata$")):
        page.mouse.move(box["x"] + 300, box["y"] + 200)
        page.mouse.down()
    image = page.locator("figure img[src*='window=']")
    for step in range(200):
        page.mouse.move(box["x"] + 300 + step, box["y"] + 200)
        if image.count():
            break
    page.mouse.up()
    image.wait_for()
    assert float(page.get_by_label("Window").input_value()) > 0
    page.get_by_role("button", name="As stored").click()
    page.locator("figure img:not([src*='window='])").wait_for()
    page.get_by_role("link", name="Attributes").click()
    page.get_by_text("Patient's Name").wait_for()
    with page.expect_download() as loading:
        page.get_by_role("link", name="Download").click()
    assert loading.value.path().read_bytes()[128:132] == b"DICM"


def open_in_the_viewer(page: Page, site: Site, patient: str) -> None:
    """From the list of the viewer, where the patient stands; scrolled, its window changed."""
    if not VIEWER:
        return
    with watched_tab(page, site) as viewer:
        viewer.goto(f"{site.url}/ohif/")
        viewer.get_by_text(patient).first.wait_for()

    with watched_tab(page, site) as viewer:
        viewer.goto(f"{site.url}{SCAN}")
        viewer.get_by_role("link", name="Open in the viewer").click()
        viewer.get_by_text(re.compile(rf"\(1/{objects.SLICES}\)")).first.wait_for()
        viewer.get_by_text("Patient", exact=True).click()
        viewer.get_by_text(patient).first.wait_for()
        box = viewer.locator("canvas.cornerstone-canvas").first.bounding_box()
        assert box is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        viewer.mouse.move(x, y)
        for _ in range(5):
            viewer.mouse.wheel(0, 100)
        viewer.get_by_text(re.compile(rf"\(6/{objects.SLICES}\)")).first.wait_for()
        window = viewer.get_by_text("W:", exact=True).first.locator("..")
        before = window.inner_text()
        viewer.mouse.down()
        viewer.mouse.move(x + 100, y + 60, steps=10)
        viewer.mouse.up()
        expect(window).not_to_have_text(before, timeout=SECONDS)


def correct_a_name(page: Page, site: Site) -> None:
    """Seen before it is done, then found by a program that is none of ours."""
    page.goto(f"{site.url}{SCAN}")
    page.get_by_role("link", name="Correct, move or split").click()
    page.get_by_label("Patient’s name").fill("Newman^Nora")
    page.get_by_role("button", name="Preview").first.click()
    change = page.get_by_role("row", name="Patient's Name")
    change.get_by_role("cell", name="Viewer^Vera").wait_for()
    change.get_by_role("cell", name="Newman^Nora").wait_for()
    page.get_by_label("Reason").fill("a wrong name was typed")
    page.get_by_role("button", name="Correct", exact=True).click()
    row = page.get_by_role("row", name="a wrong name was typed")
    assert USER in row.inner_text()
    until_it_says(page, f"{objects.SLICES} of {objects.SLICES} corrected")

    found = findscu(site, f"StudyInstanceUID={objects.CT}", "PatientName")
    assert values(found, "PatientName") == ["Newman^Nora"]
    assert uids(findscu(site, "PatientName=Viewer*", "StudyInstanceUID")) == []
    go(page, "Studies")
    page.get_by_role("link", name="Newman, Nora").first.wait_for()


def merge_two_patients_and_take_it_back(page: Page, site: Site) -> None:
    """Studies of the one are of the other, until the merge is undone."""
    mr = pydicom.dcmread(paths()[1], stop_before_pixels=True)
    patients = (f"PatientID={mr.PatientID}", "StudyInstanceUID")
    assert mr.StudyInstanceUID in uids(findscu(site, *patients))
    go(page, "Studies", "Patients")
    page.get_by_role("row", name=mr.PatientID).get_by_role("link", name="Merge…").click()
    page.get_by_label("ID that is to stay").fill("V1")
    page.get_by_role("button", name="Preview").click()
    change = page.get_by_role("row", name="Patient ID").first
    change.get_by_role("cell", name=mr.PatientID).wait_for()
    change.get_by_role("cell", name="V1").wait_for()
    page.get_by_label("Reason").fill("registered twice")
    page.get_by_role("button", name="Merge", exact=True).click()
    row = page.get_by_role("row", name="registered twice")
    row.wait_for()
    until_it_says(page, "1 of 1 corrected")
    assert mr.StudyInstanceUID not in uids(findscu(site, *patients))
    of_the_other = findscu(site, "PatientID=V1", "PatientName", "StudyInstanceUID")
    assert uids(of_the_other) == sorted([mr.StudyInstanceUID, objects.CT])
    assert values(of_the_other, "PatientName") == ["Newman^Nora"] * 2

    row.get_by_label("Reason to undo").fill("they are two people")
    row.get_by_role("button", name="Undo").click()
    until_it_says(page, "they are two people")
    assert mr.StudyInstanceUID in uids(findscu(site, *patients))
    assert uids(findscu(site, "PatientID=V1", "StudyInstanceUID")) == [objects.CT]


def delete_and_restore(page: Page, site: Site) -> None:
    """Deleted, seen by nobody, and put back."""
    page.goto(f"{site.url}{CT}")
    page.get_by_role("link", name="Delete this study").click()
    page.get_by_label("Reason").fill("sent twice")
    page.get_by_role("button", name="Delete").click()
    page.get_by_text("sent twice").wait_for()
    assert CT.removeprefix("/studies/") not in uids(findscu(site, "StudyInstanceUID"))
    page.get_by_role("button", name="Restore").click()
    go(page, "Studies")
    assert page.locator("tbody tr").count() == COUNT
    assert CT.removeprefix("/studies/") in uids(findscu(site, "StudyInstanceUID"))


def send_to_another_archive(page: Page, site: Site, second: Site) -> None:
    """A node is added and verified; a study is sent to it, and arrives with its corrected name."""
    go(page, "Network", "Nodes")
    page.get_by_text("There is none yet").wait_for()
    page.get_by_label("Address").fill(second.dicom)
    page.get_by_label("Name").fill("SECOND")
    page.get_by_role("button", name="Add").click()
    row = page.get_by_role("row", name="SECOND")
    row.get_by_role("button", name="Verify").click()
    row.get_by_role("cell", name="online").wait_for()

    page.goto(f"{site.url}{SCAN}")
    page.get_by_role("link", name="Send to another archive").click()
    page.get_by_label("To").select_option("SECOND")
    page.get_by_role("button", name="Send").click()
    page.get_by_text("Send to SECOND").wait_for()
    until_it_says(page, f"{objects.SLICES} of {objects.SLICES} objects")
    until_it_says(page, "completed")
    go(page, "Workflow", "Jobs")
    page.get_by_role("row", name="SECOND").get_by_role("cell", name="completed").wait_for()
    there = findscu(second, "StudyInstanceUID", "PatientName", "NumberOfStudyRelatedInstances")
    assert uids(there) == [objects.CT]
    assert values(there, "PatientName") == ["Newman^Nora"]


def admit_a_refused_scanner(page: Page, site: Site) -> None:
    """One is admitted by its name; another calls in vain, and is admitted by its button."""
    go(page, "Network", "Devices")
    page.get_by_label("AE title").fill("CT1")
    page.get_by_role("button", name="Admit", exact=True).click()
    page.get_by_role("cell", name="CT1", exact=True).wait_for()
    assert isocenter("echoscu", site.dicom, "-aet", "MR7").returncode != 0
    page.reload()
    row = page.get_by_role("region", name="Turned away").get_by_role("row", name="MR7")
    row.get_by_role("button", name="Admit").click()
    page.get_by_role("region", name="Admitted devices").get_by_text("MR7").wait_for()
    assert isocenter("echoscu", site.dicom, "-aet", "MR7").returncode == 0


def look_after_the_archive(page: Page) -> None:
    """A colleague, a token that is shown once, a certificate, and a setting."""
    go(page, "Access", "Users")
    page.get_by_label("Name").fill("carol")
    page.get_by_label("Passcode").fill("a long passcode of carol")
    page.get_by_role("button", name="Add").click()
    page.get_by_role("link", name="carol").wait_for()
    go(page, "Access", "API tokens")
    page.get_by_label("Name").fill("reports")
    page.get_by_label("user").select_option("carol")
    page.get_by_role("button", name="Make").click()
    assert re.search(r"iso_[0-9a-f]{8}_[0-9a-f]{64}", page.inner_text("main"))
    go(page, "Access", "API tokens")
    assert "iso_" not in page.inner_text("main")
    go(page, "Network", "Certificates")
    page.get_by_label("AE title").first.fill("US4")
    with page.expect_download() as issuing:
        page.get_by_role("button", name="Issue", exact=True).click()
    with zipfile.ZipFile(issuing.value.path()) as bundle:
        assert "US4.key" in bundle.namelist()
    go(page, "System", "Settings")
    page.get_by_label("Key or purpose").fill("web.max_results")
    page.get_by_role("button", name="Find").click()
    page.get_by_role("link", name="web.max_results").click()
    page.get_by_label("Value").fill("77")
    page.get_by_role("button", name="Change").click()
    page.get_by_text("in use after a restart only").wait_for()


def try_the_rules_and_save_the_list(page: Page, site: Site) -> None:
    """What the rules would do with a study, and what came last, as a table."""
    page.goto(f"{site.url}{CT}")
    page.get_by_text("For programs").click()
    page.get_by_role("link", name="Try the rules").click()
    page.get_by_text("1 instance", exact=True).wait_for()
    page.get_by_text("(0010,4000)").wait_for()
    go(page, "Studies", "Arrivals")
    assert page.locator("tbody tr").count() == COUNT
    with page.expect_download() as saving:
        page.get_by_role("link", name="As CSV").click()
    rows = list(csv.reader(saving.value.path().read_text("utf-8-sig").splitlines()))
    assert rows[0][:3] == ["Last", "Patient", "ID"]
    assert len(rows) == COUNT + 1
    assert "CompressedSamples, MR1" in {row[1] for row in rows}


def read_who_did_it_all(page: Page, site: Site) -> None:
    """Each deed stands in the audit trail, with the name of who did it."""
    for event, deeds in {
        "user authentication": ("",),
        "DICOM instances accessed": (
            "correct, correction 1",
            "merge patients, correction 2",
            "merge patients, correction 2 is undone",
        ),
        "DICOM study deleted": ("",),
        "security alert": (
            "application entity MR7 admitted",
            "user carol added",
            "the API token reports was made",
            "certificate US4 issued",
            "settings changed: web.max_results",
        ),
    }.items():
        page.goto(f"{site.url}/audit")
        page.get_by_label("Event").fill(event)
        page.get_by_label("User").fill(USER)
        page.get_by_role("button", name="Find").click()
        for deed in deeds:
            page.get_by_role("row", name=deed).filter(has_text=USER).first.wait_for()


def go(page: Page, group: str, name: str = "") -> None:
    """To a page by the navigation; without *name* to the first of its group."""
    page.get_by_label("Groups of pages").get_by_role("link", name=group).click()
    if name:
        page.get_by_label("Pages", exact=True).get_by_role("link", name=name, exact=True).click()


def until_it_says(page: Page, text: str) -> None:
    """Look again at the page until it has *text*."""
    found = page.locator("main", has_text=text)
    for _ in range(SECONDS // 200):
        if found.count():
            return
        page.wait_for_timeout(200)
        page.reload()
    raise AssertionError(f"the page does not come to say: {text}")


@contextmanager
def watched_tab(page: Page, site: Site) -> Iterator[Page]:
    """Another tab of the same browser, in which nothing may go wrong either."""
    problems: list[str] = []
    found = page.context.new_page()
    found.set_default_timeout(SECONDS)
    found.add_init_script("localStorage.setItem('shownTours', '[\"basicViewerTour\"]')")
    archive.watch(found, site, problems)
    yield found
    found.close()
    assert problems == []


def findscu(site: Site, *keys: str) -> str:
    """What DCMTK's tool is answered at the level of studies."""
    program = shutil.which("findscu")
    assert program is not None, "needs DCMTK (Debian: apt-get install dcmtk)"
    host, port = site.dicom.partition("@")[2].split(":")
    command = [program, "-S", "-aet", "CT1", "-aec", "ISOCENTER", "-k", "QueryRetrieveLevel=STUDY"]
    for key in keys:
        command += ["-k", key]
    done = subprocess.run([*command, host, port], text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def values(answers: str, keyword: str) -> list[str]:
    """The values of an attribute in these answers, sorted."""
    found = re.findall(rf"[A-Z]{{2}} \[([^\]]*)\]\s+#.* {keyword}\n", answers)
    return sorted(value.strip(" \0") for value in found)


def uids(answers: str) -> list[str]:
    """Studies of these answers, sorted."""
    return values(answers, "StudyInstanceUID")
