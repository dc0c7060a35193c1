from __future__ import annotations

import codecs

from pydicom.charset import CODES_TO_ENCODINGS, python_encoding

from isocenter.services.dicom.character_sets import ESCAPE_SEQUENCES, TERMS


def canonical(names):
    return {key: codecs.lookup(codec).name for key, codec in names.items()}


def test_terms_mean_what_they_mean_to_pydicom_and_latin_9_is_known_as_well():
    ours = canonical(TERMS)

    assert ours.pop("ISO_IR 203") == ours.pop("ISO 2022 IR 203") == "iso8859-15"
    assert ours == canonical(python_encoding)


def test_escape_sequences_designate_what_they_designate_to_pydicom_and_latin_9():
    ours = canonical(ESCAPE_SEQUENCES)

    assert ours.pop(b"\x1b-b") == "iso8859-15"
    assert ours == canonical(CODES_TO_ENCODINGS)
