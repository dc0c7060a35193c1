"""Presentation states made for tests."""

from __future__ import annotations

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

GRAYSCALE = "1.2.840.10008.5.1.4.1.1.11.1"


def reference(image: Dataset, *frames: int) -> Dataset:
    """An item of a Referenced Image Sequence."""
    item = Dataset()
    item.ReferencedSOPClassUID = image.SOPClassUID
    item.ReferencedSOPInstanceUID = image.SOPInstanceUID
    if frames:
        item.ReferencedFrameNumber = [str(each) for each in frames]
    return item


def state_of(image: Dataset, *frames: int) -> Dataset:
    """A grayscale softcopy presentation state that names an image, or some of its frames; all of
    it is displayed, with no transformation."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = GRAYSCALE, generate_uid()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.PatientName, dataset.PatientID = image.PatientName, image.PatientID
    dataset.PatientBirthDate = dataset.PatientSex = ""
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = image.StudyInstanceUID, generate_uid()
    dataset.StudyDate = dataset.StudyTime = dataset.AccessionNumber = ""
    dataset.StudyID = dataset.ReferringPhysicianName = dataset.Manufacturer = ""
    dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = "PR", "1", "1"
    dataset.ContentLabel, dataset.ContentDescription = "TEST", ""
    dataset.PresentationCreationDate, dataset.PresentationCreationTime = "20260101", "120000"
    dataset.ContentCreatorName = ""
    series = Dataset()
    series.SeriesInstanceUID = image.SeriesInstanceUID
    series.ReferencedImageSequence = Sequence([reference(image, *frames)])
    dataset.ReferencedSeriesSequence = Sequence([series])
    area = Dataset()
    area.DisplayedAreaTopLeftHandCorner = [1, 1]
    area.DisplayedAreaBottomRightHandCorner = [image.Columns, image.Rows]
    area.PresentationSizeMode = "SCALE TO FIT"
    area.PresentationPixelAspectRatio = ["1", "1"]
    dataset.DisplayedAreaSelectionSequence = Sequence([area])
    dataset.ImageRotation, dataset.ImageHorizontalFlip = 0, "N"
    dataset.PresentationLUTShape = "IDENTITY"
    return dataset
