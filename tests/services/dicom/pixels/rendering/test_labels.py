"""Labels and letters that are burned into pictures on request."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from pydicom.dataset import Dataset

from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.rendering import labels, lettering
from isocenter.services.dicom.pixels.rendering.elements import (
    FrameElements,
    read_elements,
)
from isocenter.services.dicom.pixels.rendering.options import RenderOptions
from support.images import dataset_of, describe
from support.rendering import bytes_of, picture_of

PATIENT = RenderOptions(has_patient_label=True)
TECHNIQUE = RenderOptions(has_technique_label=True)


def image(samples: int = 1) -> Dataset:
    described = describe(300, 400, samples=samples)
    dataset = dataset_of(described, [np.zeros(described.shape, np.uint8)])
    dataset.Modality, dataset.StudyDate = "CT", "20260102"
    dataset.SeriesNumber, dataset.InstanceNumber, dataset.SeriesDescription = "4", "7", "THORAX"
    dataset.PatientBirthDate, dataset.PatientSex = "19500203", "F"
    return dataset


def frame_of(dataset: Dataset, number: int = 0) -> FrameElements:
    from isocenter.engine.dataset import EXPLICIT_LITTLE

    return FrameElements(read_elements(bytes_of(dataset), EXPLICIT_LITTLE), number)


@pytest.mark.parametrize("samples", [1, 3])
def test_nothing_is_burned_in_unless_asked(samples: int) -> None:
    dataset = image(samples)
    assert not picture_of(dataset).any()
    patient, technique = picture_of(dataset, PATIENT), picture_of(dataset, TECHNIQUE)
    assert patient[:60].any()
    assert not patient[150:].any()
    assert technique[240:].any()
    assert not technique[:150].any()


def test_they_say_who_and_how() -> None:
    dataset = image()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName, dataset.PatientID = "Müller^Änne^^^=x=y", "PIXELS-1"
    assert labels._patient(frame_of(dataset).root) == [
        "Müller Änne", "PIXELS-1", "1950-02-03 F"
    ]  # fmt: skip
    assert labels._technique(frame_of(dataset)) == ["CT 2026-01-02", "THORAX", "Se 4 Im 7"]
    assert labels._technique(frame_of(dataset, 2))[-1] == "Se 4 Im 7 Fr 3"


def test_an_object_that_says_nothing_has_no_labels() -> None:
    dataset = image()
    for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex"):
        setattr(dataset, name, "")
    assert not picture_of(dataset, PATIENT).any()


def test_letters_have_an_outline_that_covers_more() -> None:
    letters, outlined = lettering.lettering("Ag\x1b\0", 20)
    assert letters.shape == outlined.shape
    assert letters.sum() > 20
    assert outlined.sum() > letters.sum()
    assert (outlined >= letters - 0.01).all()


def test_pictures_smaller_than_their_labels_are_pictures() -> None:
    described = describe(3, 5)
    dataset = dataset_of(described, [np.zeros((3, 5), np.uint8)])
    assert picture_of(dataset, PATIENT).shape == (3, 5)


def test_without_pillow_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImageError, match=r"isocenter\[labels\]"):
        picture_of(image(), PATIENT)
    assert picture_of(image()).shape == (300, 400)
