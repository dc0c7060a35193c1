"""Manifests as Key Object Selections, judged by programs that we did not write."""

from __future__ import annotations

import subprocess
from io import BytesIO
from pathlib import Path

import highdicom
import pydicom
import pytest
from pydicom.dataset import Dataset

from isocenter.services.integration.sharing.key_object_manifest import (
    ManifestForm,
    manifest_bytes,
)
from isocenter.services.integration.sharing.manifest import (
    ManifestPatient,
    ManifestSeries,
    StudyManifest,
)
from services.integration.sharing.samples import (
    ROOT,
    identity,
    manifest,
    series,
)

FORMS = pytest.mark.parametrize("form", list(ManifestForm))


def read(of: StudyManifest, form: ManifestForm = ManifestForm.XDS_I) -> Dataset:
    return pydicom.dcmread(BytesIO(manifest_bytes(of, identity(form))))


def references(dataset: Dataset) -> set[str]:
    """What the evidence names."""
    (study,) = dataset.CurrentRequestedProcedureEvidenceSequence
    return {
        instance.ReferencedSOPInstanceUID
        for one in study.ReferencedSeriesSequence
        for instance in one.ReferencedSOPSequence
    }


def content(dataset: Dataset) -> dict[str, str]:
    """What stands directly below the title: SOP Instance UID → value type."""
    return {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID: item.ValueType
        for item in dataset.ContentSequence
        if item.ValueType != "CONTAINER"
    }


@FORMS
def test_every_instance_stands_in_evidence_and_content(form: ManifestForm) -> None:
    of = manifest()
    wanted = {instance.sop_instance_uid for _, instance in of.instances()}
    found = read(of, form)
    assert len(wanted) == of.instance_count == 6
    assert references(found) == wanted
    assert content(found).keys() == wanted
    kinds = content(found)
    assert kinds[f"{ROOT}.1.1"] == kinds[f"{ROOT}.2.1"] == "IMAGE"
    assert kinds[f"{ROOT}.3.1"] == "WAVEFORM"
    assert kinds[f"{ROOT}.4.1"] == "COMPOSITE"


def test_each_series_says_where_it_can_be_had() -> None:
    (study,) = read(manifest()).CurrentRequestedProcedureEvidenceSequence
    assert len(study.ReferencedSeriesSequence) == 4
    for one in study.ReferencedSeriesSequence:
        assert one.RetrieveURL == "https://archive.example/dicomweb"
        assert one.RetrieveLocationUID == "1.2.826.0.1.3680043.10.999.99"
        assert one.RetrieveAETitle == "ISOCENTER"


def test_patient_and_order_are_named_with_who_gives_their_numbers() -> None:
    found = read(manifest())
    assert str(found.PatientName) == "Müller^Jörg^^Dr.=ミュラー^ヨルク"
    assert found.IssuerOfPatientID == "CLINIC"
    assert found.IssuerOfPatientIDQualifiersSequence[0].UniversalEntityID == "1.3.6.1.4.1.2"
    (order,) = found.ReferencedRequestSequence
    assert order.AccessionNumber == found.AccessionNumber == "A1"
    assert order.IssuerOfAccessionNumberSequence[0].UniversalEntityID == "1.3.6.1.4.1.3"
    assert (found.ContentDate, found.ContentTime) == ("20261130", "073015")
    assert found.TimezoneOffsetFromUTC == "+0000"


def test_titles_are_those_of_the_profiles() -> None:
    (title,) = read(manifest()).ConceptNameCodeSequence
    assert (title.CodeValue, title.CodingSchemeDesignator) == ("113030", "DCM")
    (title,) = read(manifest(), ManifestForm.MADO).ConceptNameCodeSequence
    assert (title.CodeValue, title.CodingSchemeDesignator) == ("MADOTEMP001", "99IHE")


def test_the_same_document_has_the_same_bytes() -> None:
    assert manifest_bytes(manifest(), identity()) == manifest_bytes(manifest(), identity())
    assert manifest().digest == manifest().digest
    assert manifest(description="Other").digest != manifest().digest
    assert manifest(series=(series(1, count=2),)).digest != manifest(series=(series(1),)).digest


def test_mado_describes_series_and_instances() -> None:
    library = next(
        item
        for item in read(manifest(), ManifestForm.MADO).ContentSequence
        if item.ValueType == "CONTAINER"
    )
    values = {
        item.ConceptNameCodeSequence[0].CodeMeaning: item
        for item in library.ContentSequence
        if item.RelationshipType == "HAS ACQ CONTEXT"
    }
    region = values["Target Region"].ConceptCodeSequence[0]
    assert (region.CodeValue, region.CodingSchemeDesignator) == ("67734004", "SCT")
    assert values["Number of Study Related Series"].MeasuredValueSequence[0].NumericValue == 4
    groups = [item for item in library.ContentSequence if item.RelationshipType == "CONTAINS"]
    assert len(groups) == 4
    first = {
        item.ConceptNameCodeSequence[0].CodeMeaning: item
        for item in groups[0].ContentSequence
        if item.RelationshipType == "HAS ACQ CONTEXT"
    }
    assert f"{ROOT}.1" == first["Series Instance UID"].UID
    assert first["Series Description"].TextValue == "Series 1"
    assert str(first["Series Date"].Date) == "20260102"
    assert first["Number of Series Related Instances"].TextValue == "3"
    entries = [item for item in groups[1].ContentSequence if item.RelationshipType == "CONTAINS"]
    frames = entries[0].ContentSequence[0]
    assert frames.ConceptNameCodeSequence[0].CodeValue == "121140"
    assert frames.MeasuredValueSequence[0].NumericValue == 12


def test_a_study_that_says_nothing_of_itself_has_what_is_needed() -> None:
    bare = StudyManifest(
        study_instance_uid=ROOT,
        patient=ManifestPatient(),
        series=(
            ManifestSeries(
                series_instance_uid=f"{ROOT}.1", instances=series(1).instances, instance_count=3
            ),
        ),
    )
    for form in ManifestForm:
        found = read(bare, form)
        assert found.PatientID == ""
        assert found.StudyDate == ""
        assert "ReferencedRequestSequence" not in found
        assert (
            "RetrieveURL"
            not in (found.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0])
        )


@FORMS
def test_highdicom_reads_it_as_a_key_object_selection(form: ManifestForm, tmp_path: Path) -> None:
    path = tmp_path / "manifest.dcm"
    # highdicom knows no waveforms in content trees.
    of = manifest(series=tuple(one for one in manifest().series if one.modality != "ECG"))
    path.write_bytes(manifest_bytes(of, identity(form)))
    found = highdicom.ko.KeyObjectSelectionDocument.from_dataset(pydicom.dcmread(path))
    assert found.resolve_reference(f"{ROOT}.1.2") == (ROOT, f"{ROOT}.1", f"{ROOT}.1.2")
    assert len(found.content.get_references()) == 5


@pytest.mark.interop("dciodvfy")
def test_dciodvfy_finds_no_error_in_a_manifest(tmp_path: Path) -> None:
    path = tmp_path / "manifest.dcm"
    path.write_bytes(manifest_bytes(manifest(), identity()))
    done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    assert errors == []
    assert "KeyObjectSelectionDocument" in done.stderr


@pytest.mark.interop("dsrdump")
@FORMS
def test_dsrdump_reads_its_content(form: ManifestForm, tmp_path: Path) -> None:
    path = tmp_path / "manifest.dcm"
    path.write_bytes(manifest_bytes(manifest(), identity(form)))
    command = ["dsrdump", "-Ec" if form is ManifestForm.MADO else "-q", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Manifest" in done.stdout
