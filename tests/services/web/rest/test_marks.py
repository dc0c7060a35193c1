"""Annotations, measurements and key images in the API, and the objects that are made of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom
import httpx
import numpy as np
import pydicom
import pytest
import trio

from isocenter.services.archive.corrections.service import Corrections
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Query
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.dicom.pixels.pool import CodecPool, PoolLimits
from isocenter.services.dicom.pixels.rendering.options import PNG, RenderOptions
from isocenter.services.dicom.pixels.rendering.renderer import render
from isocenter.services.errors import StorageError
from isocenter.services.notices import InstancesMarked, InstanceStored
from isocenter.services.web.cursors import cursor
from services.web.rest.images import COLUMNS, ROWS, SERIES, STUDY, image, put, uid
from services.web.signed_in import ALICE, Site, opened

TECH = replace(ALICE, name="tess", roles=("Technologist",))
OTHER = replace(ALICE, name="otto", roles=("Technologist",))
RADA = replace(ALICE, name="rada", roles=("Radiologist",))
SYSTEM = replace(ALICE, name="ada", roles=("System",))
ARROW = {
    "sop_instance_uid": uid(1),
    "annotation_type": "arrow",
    "geometry": {"points": [[1, 2], [30, 20]]},
    "text": "seen here",
}
LENGTH = {
    "sop_instance_uid": uid(1),
    "measurement_type": "length",
    "geometry": {"points": [[0, 0], [12, 8]]},
}


class Person:
    """Somebody who is signed in."""

    def __init__(self, site: Site, headers: dict[str, str]) -> None:
        self.site = site
        self.headers = {**headers, "origin": site.root}

    async def __call__(
        self, method: str, path: str, body: Any = None, status: int = 0, **headers: str
    ) -> Any:
        answer = await self.ask(method, path, body, **headers)
        expected = status or {"GET": 200, "POST": 201, "PUT": 200, "DELETE": 204}[method]
        assert answer.status_code == expected, answer.text
        return answer.json() if answer.content else None

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        return await self.site.client.request(
            method, f"/api/v1{path}", json=body, headers={**self.headers, **headers}
        )


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened(tmp_path, more=[TECH, OTHER, RADA, SYSTEM]) as found:
        await put(found.parts.archive, *(image(number) for number in (1, 2, 3)))
        yield found


@pytest.fixture
async def tess(site: Site) -> Person:
    return Person(site, await site.cookie("tess"))


# -- Annotations --------------------------------------------------------------------------


async def test_an_annotation_is_kept_with_its_author(site: Site, tess: Person) -> None:
    made = await tess("POST", "/annotations", {**ARROW, "style": {"color": "#ff0000"}})
    assert (made["user_id"], made["study_uid"], made["series_uid"]) == ("tess", STUDY, SERIES)
    assert made["geometry"] == {"points": [[1, 2], [30, 20]]}
    assert (made["style"]["color"], made["style"]["line_width"]) == ("#ff0000", 1)
    assert (made["frame_number"], made["version"]) == (1, 1)
    assert await tess("GET", f"/annotations/{made['id']}") == made
    (told,) = [one for one in site.told if isinstance(one, InstancesMarked)]
    assert (told.caller.user, told.study_instance_uid, told.action) == ("tess", STUDY, "C")
    assert "seen here" not in told.what


async def test_annotations_are_filtered(site: Site, tess: Person) -> None:
    otto = Person(site, await site.cookie("otto"))
    first = await tess("POST", "/annotations", ARROW)
    second = await otto("POST", "/annotations", {**ARROW, "sop_instance_uid": uid(2)})

    async def ids(path: str) -> list[str]:
        found = await tess("GET", path)
        assert found["pagination"]["total"] == len(found["data"])
        return [one["id"] for one in found["data"]]

    assert await ids("/annotations") == [first["id"], second["id"]]
    assert await ids(f"/annotations?study_uid={STUDY}&series_uid={SERIES}") == [
        first["id"], second["id"],
    ]  # fmt: skip
    assert await ids("/annotations?user_id=otto") == [second["id"]]
    assert await ids(f"/annotations?sop_instance_uid={uid(1)}") == [first["id"]]
    assert await ids(f"/instances/{uid(2)}/annotations") == [second["id"]]
    assert await ids("/annotations?study_uid=1.9") == []
    await tess("GET", "/instances/1.9/annotations", status=404)
    page = await tess("GET", "/annotations?limit=1")
    following = page["pagination"]["next"]
    # What was shown last goes; the place stays.
    await tess("DELETE", f"/annotations/{first['id']}", status=204)
    found = await tess("GET", f"/annotations?limit=1&after={following}")
    assert [one["id"] for one in found["data"]] == [second["id"]]
    for other in (cursor((1, "a", "b")), cursor(("a", "b"))):
        answer = await tess("GET", f"/annotations?after={other}", status=400)
        assert "after is of another list" in answer["detail"]


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"annotation_type": "circle"}, 400, "INVALID_TYPE"),
        ({"annotation_type": None}, 400, "INVALID_REQUEST"),
        ({"geometry": {"points": [[1, 2]]}}, 400, "INVALID_GEOMETRY"),
        ({"geometry": {"points": [[1, 2], [300, 20]]}}, 400, "INVALID_GEOMETRY"),
        ({"geometry": {"points": [[1, 2], [3]]}}, 400, "INVALID_REQUEST"),
        ({"geometry": {"points": [[1, 2], [3, 4]], "z": 1}}, 400, "INVALID_REQUEST"),
        ({"annotation_type": "text", "geometry": {"points": [[1, 2]]}, "text": " "}, 400,
         "INVALID_REQUEST"),
        ({"text": "x" * 1025}, 400, "INVALID_REQUEST"),
        ({"text": "bell\x07"}, 400, "INVALID_REQUEST"),
        ({"style": {"color": "red"}}, 400, "INVALID_REQUEST"),
        ({"style": {"fill_opacity": 2}}, 400, "INVALID_REQUEST"),
        ({"frame_number": 2}, 400, "NO_FRAME"),
        ({"sop_instance_uid": "1.9"}, 404, "NOT_FOUND"),
        ({"study_uid": "1.9"}, 404, "NOT_FOUND"),
        ({"series_uid": "1.9"}, 404, "NOT_FOUND"),
        ({"user_id": "otto"}, 400, "INVALID_REQUEST"),
    ],
)  # fmt: skip
async def test_what_is_no_annotation_is_refused(
    tess: Person, changes: dict[str, Any], status: int, code: str
) -> None:
    body = {name: value for name, value in {**ARROW, **changes}.items() if value is not ...}
    assert (await tess("POST", "/annotations", body, status))["code"] == code
    assert (await tess("GET", "/annotations"))["data"] == []


async def test_a_field_that_is_missing_is_named(tess: Person) -> None:
    body = {name: value for name, value in ARROW.items() if name != "geometry"}
    found = await tess("POST", "/annotations", body, 400)
    assert found["code"] == "MISSING_FIELD"
    assert "geometry" in found["detail"]


async def test_what_has_no_pixels_cannot_be_annotated(site: Site, tess: Person) -> None:
    report = image(5, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33", Modality="SR")
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(report, keyword)
    await put(site.parts.archive, report)
    found = await tess("POST", "/annotations", {**ARROW, "sop_instance_uid": uid(5)}, 400)
    assert found["code"] == "NOT_IMAGE"


async def test_whose_it_is_changes_it_as_it_was_read(site: Site, tess: Person) -> None:
    made = await tess("POST", "/annotations", ARROW)
    path = f"/annotations/{made['id']}"
    tag = (await tess.ask("GET", path)).headers["etag"]
    assert (await tess.ask("GET", path, **{"if-none-match": tag})).status_code == 304
    changed = await tess("PUT", path, {"text": "here"}, **{"if-match": tag})
    assert (changed["text"], changed["version"]) == ("here", 2)
    assert changed["geometry"] == made["geometry"]
    assert (await tess("PUT", path, {"text": "no"}, 412, **{"if-match": tag}))["code"] == "CHANGED"
    moved = await tess(
        "PUT", path, {"annotation_type": "roi", "geometry": {"points": [[1, 1], [9, 1], [9, 9]]}}
    )
    assert (moved["annotation_type"], moved["text"]) == ("roi", "here")
    assert (await tess("PUT", path, {"annotation_type": "arrow"}, 400))["code"] == (
        "INVALID_GEOMETRY"
    )
    assert (await tess("PUT", path, {"frame_number": 0}, 400))["code"] == "NO_FRAME"
    otto = Person(site, await site.cookie("otto"))
    assert (await otto("PUT", path, {"text": "mine"}, 403))["code"] == "NOT_YOURS"
    assert (await otto("DELETE", path, status=403))["code"] == "NOT_YOURS"
    await tess("DELETE", path, status=412, **{"if-match": tag})
    await tess("DELETE", path)
    await tess("DELETE", path, status=404)
    actions = [one.action for one in site.told if isinstance(one, InstancesMarked)]
    assert actions == ["C", "U", "U", "D"]


async def test_whoever_may_delete_studies_removes_what_others_noted(
    site: Site, tess: Person
) -> None:
    made = await tess("POST", "/annotations", ARROW)
    rada = Person(site, await site.cookie("rada"))
    assert (await rada("PUT", f"/annotations/{made['id']}", {"text": "x"}, 403))["code"] == (
        "NOT_YOURS"
    )
    await rada("DELETE", f"/annotations/{made['id']}")


async def test_notes_vanish_with_a_deleted_study(site: Site, tess: Person) -> None:
    made = await tess("POST", "/annotations", ARROW)
    measured = await tess("POST", "/measurements", LENGTH)
    await tess("POST", f"/studies/{STUDY}/key-images", {"sop_instance_uid": uid(1)})
    rada = Person(site, await site.cookie("rada"))
    await rada("DELETE", f"/studies/{STUDY}?reason=test")
    for path in ("/annotations", "/measurements", f"/studies/{STUDY}/key-images"):
        assert (await tess("GET", path))["data"] == []
    await tess("GET", f"/annotations/{made['id']}", status=404)
    await tess("DELETE", f"/measurements/{measured['id']}", status=404)


# -- Measurements -------------------------------------------------------------------------


async def test_a_length_follows_from_the_spacing(tess: Person) -> None:
    made = await tess("POST", "/measurements", LENGTH)
    assert (made["value"], made["unit"], made["is_computed"]) == (5, "mm", True)
    assert await tess("POST", "/measurements", {**LENGTH, "value": 0.51, "unit": "cm"})
    found = await tess("POST", "/measurements", {**LENGTH, "value": 50}, 409)
    assert found["code"] == "OTHER_VALUE"
    assert "5 mm" in found["detail"]
    listed = await tess("GET", "/measurements?measurement_type=length")
    assert len(listed["data"]) == 2
    assert (await tess("GET", "/measurements?measurement_type=suv"))["data"] == []
    assert (await tess("GET", "/measurements?measurement_type=x", status=400))["code"] == (
        "INVALID_TYPE"
    )
    assert await tess("GET", f"/measurements/{made['id']}") == made
    assert len((await tess("GET", f"/instances/{uid(1)}/measurements"))["data"]) == 2
    await tess("DELETE", f"/measurements/{made['id']}")


async def test_areas_and_angles(tess: Person) -> None:
    box = {"points": [[0, 0], [8, 8]]}
    found = await tess(
        "POST", "/measurements", {**LENGTH, "measurement_type": "area", "geometry": box}
    )
    assert (found["value"], found["unit"], found["geometry"]["shape"]) == (8, "mm2", "rectangle")
    found = await tess(
        "POST", "/measurements", {**LENGTH, "measurement_type": "ellipse_area", "geometry": box}
    )
    assert found["value"] == pytest.approx(6.2832, abs=1e-3)
    corner = {"points": [[8, 0], [0, 0], [0, 8]]}
    found = await tess(
        "POST", "/measurements", {**LENGTH, "measurement_type": "angle", "geometry": corner}
    )
    assert (found["value"], found["unit"]) == (90, "deg")


async def test_without_codecs_a_mean_is_said(tess: Person) -> None:
    region = {"points": [[0, 0], [8, 8]], "shape": "rectangle"}
    body = {**LENGTH, "measurement_type": "hounsfield", "geometry": region}
    found = await tess("POST", "/measurements", body, 400)
    assert "say it" in found["detail"]
    made = await tess("POST", "/measurements", {**body, "value": 7})
    assert (made["value"], made["unit"], made["is_computed"]) == (7, "HU", False)
    found = await tess("POST", "/measurements", {**body, "measurement_type": "suv"}, 400)
    assert "PET" in found["detail"]


async def test_a_mean_is_that_of_the_pixels(tmp_path: Path) -> None:
    async with (
        CodecPool(PoolLimits(workers=1)) as pool,
        opened(tmp_path, more=[TECH], pool=pool) as site,
    ):
        await put(site.parts.archive, image(1), image(2, Modality="MR"))
        tess = Person(site, await site.cookie("tess"))
        region = {"points": [[10, 0], [20, 8]], "shape": "rectangle"}
        body = {**LENGTH, "measurement_type": "hounsfield", "geometry": region}
        made = await tess("POST", "/measurements", body)
        # Stored values are ten times their column.
        values = np.arange(10, 20) * 10.0 - 1024
        assert made["value"] == pytest.approx(values.mean())
        assert made["statistics"]["pixels"] == 80
        assert made["statistics"]["deviation"] == pytest.approx(values.std())
        assert (made["statistics"]["minimum"], made["statistics"]["maximum"]) == (-924, -834)
        point = {"points": [[30.5, 3]]}
        made = await tess("POST", "/measurements", {**body, "geometry": point})
        assert (made["value"], made["statistics"]["pixels"]) == (-724, 1)
        found = await tess("POST", "/measurements", {**body, "value": 40}, 409)
        assert found["code"] == "OTHER_VALUE"
        found = await tess("POST", "/measurements", {**body, "sop_instance_uid": uid(2)}, 400)
        assert "not in Hounsfield units" in found["detail"]


# -- Key images ---------------------------------------------------------------------------


async def test_key_images_of_a_study(tess: Person) -> None:
    path = f"/studies/{STUDY}/key-images"
    made = await tess(
        "POST", path, {"sop_instance_uid": uid(1), "reason": "Läsion", "document_title": "113013"}
    )
    assert (made["document_title"], made["title_code"]) == ("Best In Set", "113013")
    second = await tess("POST", path, {"sop_instance_uid": uid(2)})
    assert second["document_title"] == "Of Interest"
    assert [one["id"] for one in (await tess("GET", path))["data"]] == [made["id"], second["id"]]
    for title in ("113001", "Rejected for Quality Reasons", "113039"):
        body = {"sop_instance_uid": uid(1), "document_title": title}
        assert "is one of" in (await tess("POST", path, body, 400))["detail"]
    await tess("POST", "/studies/1.9/key-images", {"sop_instance_uid": uid(1)}, 404)
    await tess("DELETE", f"/key-images/{made['id']}")
    assert len((await tess("GET", path))["data"]) == 1


# -- Objects made of them -----------------------------------------------------------------


async def read(site: Site, sop_instance_uid: str) -> pydicom.Dataset:
    (stored,) = (await site.parts.archive.index.get([sop_instance_uid])).values()
    async with await site.parts.archive.open(stored) as reader:
        return pydicom.dcmread(BytesIO(await reader.read(0, reader.size)))


async def test_annotations_become_presentation_states(site: Site, tess: Person) -> None:
    otto = Person(site, await site.cookie("otto"))
    first = await tess("POST", "/annotations", ARROW)
    await tess("POST", "/annotations", {**ARROW, "sop_instance_uid": uid(2)})
    await otto("POST", "/annotations", ARROW)
    path = f"/studies/{STUDY}/annotations/export-ps"
    found = await tess("POST", path, {"label": "notes", "description": "of today"})
    assert [one["user_id"] for one in found["documents"]] == ["tess", "otto"]
    assert [one["marks"] for one in found["documents"]] == [2, 1]
    state = await read(site, found["documents"][0]["sop_instance_uid"])
    assert (state.ContentLabel, state.ContentDescription) == ("NOTES", "of today")
    assert (state.PatientID, state.StudyInstanceUID, state.Modality) == ("P1", STUDY, "PR")
    assert state.InstanceNumber == 1
    assert len(state.GraphicAnnotationSequence) == 2
    # It came as any object comes, and is told as one.
    stored = [one for one in site.told if isinstance(one, InstanceStored)]
    assert {one.sop_class_uid for one in stored} == {"1.2.840.10008.5.1.4.1.1.11.1"}
    assert {one.caller.user for one in stored} == {"tess"}
    again = await tess("POST", path, {"ids": [first["id"]]})
    (document,) = again["documents"]
    assert document["referenced_instances"] == [uid(1)]
    assert document["series_instance_uid"] == found["documents"][0]["series_instance_uid"]
    assert (await read(site, document["sop_instance_uid"])).InstanceNumber == 2
    assert (await tess("POST", path, {"label": "ä"}, 400))["code"] == "INVALID_REQUEST"
    assert (await tess("POST", path, {"user_id": "nobody"}, 404))["code"] == "NO_ANNOTATIONS"


async def test_measurements_become_a_report(site: Site, tess: Person) -> None:
    path = f"/studies/{STUDY}/measurements/export-sr"
    assert (await tess("POST", path, {}, 404))["code"] == "NO_MEASUREMENTS"
    await tess("POST", "/measurements", {**LENGTH, "label": "Tumor"})
    answer = await tess.ask("POST", path)  # without a body
    assert answer.status_code == 201, answer.text
    (document,) = answer.json()["documents"]
    report = await read(site, document["sop_instance_uid"])
    content = highdicom.sr.ComprehensiveSR.from_dataset(report).content
    (group,) = content.get_image_measurement_groups()
    (measured,) = group.get_measurements()
    assert (group.tracking_identifier, measured.value, measured.unit.value) == ("Tumor", 5, "mm")


async def test_key_images_become_key_object_selections(site: Site, tess: Person) -> None:
    path = f"/studies/{STUDY}/key-images"
    assert (await tess("POST", f"{path}/export-sr", {}, 404))["code"] == "NO_KEY_IMAGES"
    for number, title in ((1, "For Teaching"), (2, "For Teaching"), (3, "Of Interest")):
        await tess("POST", path, {"sop_instance_uid": uid(number), "document_title": title})
    found = await tess("POST", f"{path}/export-sr", {})
    assert found["document_type"] == "KO"
    assert [one["document_title"] for one in found["documents"]] == ["For Teaching", "Of Interest"]
    assert found["documents"][0]["referenced_instances"] == [uid(1), uid(2)]
    selections = [await read(site, one["sop_instance_uid"]) for one in found["documents"]]
    assert [one.InstanceNumber for one in selections] == [1, 2]
    only = await tess("POST", f"{path}/export-sr", {"document_title": "For Teaching"})
    assert len(only["documents"]) == 1


async def test_marks_follow_their_image_when_it_is_corrected(site: Site, tess: Person) -> None:
    """A study is split, and its patient's name put right: marks and exports say what holds now."""
    await put(site.parts.archive, image(1, series="1.2.3.2"))
    made = await tess("POST", "/annotations", ARROW)
    rada = Person(site, await site.cookie("ada"))
    split = {"kind": "split study", "study": STUDY, "series": [SERIES], "reason": "two visits"}
    await rada("POST", "/corrections", split, 202)
    corrections = Corrections(site.parts.archive, site.parts.stores.corrections)
    await corrections.work()
    found = await tess("GET", f"/annotations/{made['id']}")
    assert found["study_uid"] != STUDY
    assert found["sop_instance_uid"] == uid(1)
    rename = {
        "kind": "correct", "study": found["study_uid"], "changes": {"PatientName": "Right^Name"},
        "reason": "misspelt",
    }  # fmt: skip
    await rada("POST", "/corrections", rename, 202)
    await corrections.work()
    exported = await tess("POST", f"/studies/{found['study_uid']}/annotations/export-ps", {})
    state = await read(site, exported["documents"][0]["sop_instance_uid"])
    assert state.StudyInstanceUID == found["study_uid"]
    assert state.PatientName == "Right^Name"
    assert (await tess("GET", f"/annotations?study_uid={STUDY}"))["data"] == []


@pytest.mark.interop("dciodvfy", "dsrdump")
async def test_what_is_stored_is_valid(site: Site, tess: Person, tmp_path: Path) -> None:
    await tess("POST", "/annotations", ARROW)
    await tess("POST", "/measurements", LENGTH)
    await tess("POST", f"/studies/{STUDY}/key-images", {"sop_instance_uid": uid(1)})
    for what in ("annotations/export-ps", "measurements/export-sr", "key-images/export-sr"):
        (document,) = (await tess("POST", f"/studies/{STUDY}/{what}", {}))["documents"]
        path = tmp_path / "made.dcm"
        (await read(site, document["sop_instance_uid"])).save_as(path)
        done = await trio.run_process(
            ["dciodvfy", "-new", path], capture_stdout=True, capture_stderr=True, check=False
        )
        assert [one for one in done.stderr.splitlines() if one.startswith(b"Error")] == []


async def test_a_state_is_applied_by_our_own_renderer(tmp_path: Path) -> None:
    async with (
        CodecPool(PoolLimits(workers=1)) as pool,
        opened(tmp_path, more=[TECH], pool=pool) as site,
    ):
        await put(site.parts.archive, image(1))
        tess = Person(site, await site.cookie("tess"))
        box = {"points": [[4, 4], [COLUMNS - 4, ROWS - 4]]}
        await tess(
            "POST", "/annotations", {**ARROW, "annotation_type": "rectangle", "geometry": box}
        )
        found = await tess("POST", f"/studies/{STUDY}/annotations/export-ps", {})
        uids = [uid(1), found["documents"][0]["sop_instance_uid"]]
        known = await site.parts.archive.index.get(uids)
        items = [stored_object(known[one], site.parts.archive.open) for one in uids]
        options = RenderOptions(media_type=PNG)
        plain = await render(items[0], pool, options=options)
        drawn = await render(items[0], pool, options=options, state=items[1])
        assert plain.content != drawn.content
        assert (plain.width, plain.height) == (drawn.width, drawn.height)


async def test_a_full_archive_says_that_it_is_full(site: Site, tess: Person) -> None:
    """Nothing of an export is in the index when it is refused."""
    await tess("POST", f"/studies/{STUDY}/key-images", {"sop_instance_uid": uid(1)})
    before = await site.parts.archive.index.statistics()

    async def full(size: int = 0) -> None:
        raise StorageError("the disk is full", out_of_resources=True)

    site.parts.archive.room.check = full  # type: ignore[method-assign]
    found = await tess("POST", f"/studies/{STUDY}/key-images/export-sr", {}, 503)
    assert found["code"] == "UNAVAILABLE"
    assert await site.parts.archive.index.statistics() == before
    async with site.parts.archive.index.instances(Query(level=Level.STUDY)) as blocks:
        assert sum([len(block) async for block in blocks]) == 3
