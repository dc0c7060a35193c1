"""First step: a data set in memory, in a file, and read again.

    python examples/learning/hello_dicom.py [FOLDER]

Shows tags, value representations, sequences, private elements, and what a file says of itself.
"""

import sys
from pathlib import Path
from tempfile import mkdtemp

import pydicom
from pydicom.dataset import Dataset

from isocenter.engine.dataset import read_file_head
from isocenter.services.testing import SyntheticData


def main(folder: Path) -> None:
    image = SyntheticData().ct()

    # An element is a tag, a value representation (VR) and a value (PS3.5 7.1).
    element = image["PatientName"]
    print(f"{element.tag} {element.VR} {element.keyword}")
    print(f"(0028,0010) {image['Rows'].VR} Rows = {image.Rows}")

    # A sequence holds items, which are data sets themselves (PS3.5 7.5).
    request = Dataset()
    request.RequestedProcedureID = "RP1"
    request.ScheduledProcedureStepID = "SPS1"
    image.RequestAttributesSequence = [request]
    print("step", image.RequestAttributesSequence[0].ScheduledProcedureStepID)

    # Private elements stand in a block that their creator has reserved (PS3.5 7.8).
    block = image.private_block(0x0009, "ISOCENTER EXAMPLE", create=True)
    block.add_new(0x01, "LO", "made by hello_dicom")
    print("private", block[0x01].value)

    # A file begins with its File Meta Information (PS3.10 7.1), which says how the rest is encoded.
    path = folder / "hello.dcm"
    image.save_as(path, enforce_file_format=True)
    head = read_file_head(path.read_bytes()[:4096])
    print("transfer syntax", head.transfer_syntax_uid)
    print("data set begins at byte", head.data_set_offset)

    again = pydicom.dcmread(path)
    print("the same again:", again == image)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else mkdtemp(prefix="isocenter-")))
