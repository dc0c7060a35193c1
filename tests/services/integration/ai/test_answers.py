"""Whatever a service answers with is understood, or refused with a reason that shows no value."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import orjson
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.services.integration.ai.protocol import (
    RemoteState,
    RemoteStatus,
    read_job_id,
    read_models,
    read_status,
)
from isocenter.services.integration.ai.requests import AnalysisError
from isocenter.services.integration.ai.result_check import (
    Asked,
    CheckedResult,
    check_result,
    identity_of,
)
from isocenter.services.integration.ai.result_contents import contents_of
from isocenter.services.viewing.attribute_view import AttributeView
from services.integration.ai.ai_world import STUDY, ct_image, file_of, threshold_service

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            ["job_id", "status", "progress", "error", "message", "result_uids", "models",
             "model_id", "id", "name", "modalities", "available"]
        )
        | st.text(max_size=3),
        inner,
        max_size=5,
    ),
    max_leaves=20,
)  # fmt: skip


@given(st.binary(max_size=40) | JSON.map(orjson.dumps))
def test_any_answer_is_read_or_refused(content: bytes) -> None:
    for read in (read_job_id, read_status, read_models):
        try:
            found: Any = read(content)
        except AnalysisError:
            continue
        if isinstance(found, RemoteStatus):
            assert 0 <= found.progress <= 100
            assert found.message.isprintable()


def test_a_status_is_read_as_far_as_it_makes_sense() -> None:
    said = {"status": "running", "progress": 250.5, "error": "a\nb", "result_uids": ["1.2", 3]}
    assert read_status(orjson.dumps(said)) == RemoteStatus(
        state=RemoteState.RUNNING, progress=100, message="a b", results=("1.2",)
    )
    (model,) = read_models(b'[{"id": "m", "available": false}, {"name": "nameless"}, 7]')
    assert (model.model_id, model.is_available) == ("m", False)


# -- Objects ------------------------------------------------------------------------------


@cache
def made() -> tuple[pydicom.Dataset, ...]:
    """Images, and what the example's service makes of them."""
    images = [pydicom.dcmread(io.BytesIO(ct_image(number))) for number in (1, 2)]
    return tuple(images + threshold_service.analyse(images, 200))


@cache
def file(number: int) -> bytes:
    return file_of(made()[number])


def asked(**changes: Any) -> Asked:
    first, second, segmentation, report = made()
    values: dict[str, Any] = {
        "study_instance_uid": STUDY,
        "patient_id": "P1",
        "issuer": "",
        "instances": {first.SOPInstanceUID, second.SOPInstanceUID},
        "others": {segmentation.SOPInstanceUID, report.SOPInstanceUID},
    }
    return Asked(**{**values, **changes})


def checked(content: bytes, wanted: Asked) -> CheckedResult:
    import tempfile

    with tempfile.TemporaryFile() as opened:
        opened.write(content)
        opened.flush()
        identity_of(opened)
        return check_result(opened, wanted)


@pytest.mark.parametrize("number", [2, 3])
def test_what_was_asked_for_has_neither_fault_nor_doubt(number: int) -> None:
    found = checked(file(number), asked())
    assert (found.fault, found.doubt) == ("", "")
    assert (found.algorithm, found.algorithm_version) == ("Threshold", "1.0")


@pytest.mark.parametrize(
    ("changes", "doubt"),
    [
        ({"patient_id": "P2"}, "it names another patient"),
        ({"study_instance_uid": "1.2"}, "it is of another study"),
        ({"instances": {"1.2"}, "others": set()}, "it refers to nothing that was sent"),
        ({"others": set()}, "it refers to objects that were not sent"),
    ],
)
def test_a_report_about_something_else_is_doubted(changes: dict[str, Any], doubt: str) -> None:
    assert checked(file(3), asked(**changes)).doubt == doubt


def test_who_refers_to_what_came_with_it_refers_to_nothing_else() -> None:
    """The images were not sent, and the segmentation came with the report."""
    segmentation = made()[2].SOPInstanceUID
    found = checked(file(3), asked(instances={"1.2"}, others={segmentation}))
    assert found.doubt == "it refers to objects that were not sent"


def test_who_names_two_patients_is_doubted() -> None:
    one, other = b"\x10\0\x20\0LO\2\0P1", b"\x10\0\x20\0LO\2\0P2"
    content = file(3)
    assert content.count(one) == 1
    found = checked(content.replace(one, one + other), asked())
    assert found.doubt == "it has an attribute more than once"


def test_an_issuer_counts_where_both_say_one() -> None:
    segmentation = pydicom.dcmread(io.BytesIO(file(2)))
    segmentation.IssuerOfPatientID = "A"
    content = file_of(segmentation)
    assert checked(content, asked(issuer="")).doubt == ""
    assert checked(content, asked(issuer="A")).doubt == ""
    assert checked(content, asked(issuer="B")).doubt == "it names another patient"


@given(st.sampled_from([0, 2, 3]), st.data())
def test_any_bytes_are_judged_and_no_value_is_shown(number: int, data: st.DataObject) -> None:
    content = bytearray(file(number))
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        match data.draw(st.sampled_from(["set", "cut", "grow"])):
            case "set":
                content[place] = data.draw(st.integers(0, 255))
            case "cut" if len(content) > 200:
                del content[place : place + data.draw(st.integers(1, 64))]
            case _:
                content[place:place] = data.draw(st.binary(max_size=16))
    found = checked(bytes(content), asked())
    said = f"{found.fault} {found.doubt} {found.remark}"
    assert "cker" not in said
    assert "Anna" not in said


MODEL = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["vr", "Value", "0040A730", "0040A040", "0040A043", "0040A168", "00080100",
             "00080104", "0040A300", "0040A30A", "00620002", "00620004", "0062000D", "00081199",
             "00081155", "0062000B", "00700022"]
        ),
        inner,
        max_size=6,
    ),
    max_leaves=40,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["0040A730", "00620002", "0040A043"]), MODEL, max_size=3))
def test_any_model_has_contents(model: dict[str, Any]) -> None:
    contents_of(AttributeView(model))
