from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import datadict
from pydicom._private_dict import private_dictionaries
from pydicom.uid import UID_dictionary

from isocenter.services.dicom import pydicom_tables
from isocenter.services.dicom.data_dictionary import (
    dictionary_vr,
    dictionary_vr_choice,
    keyword_for_tag,
    name_for_tag,
    tag_for_keyword,
)
from isocenter.services.dicom.uid_registry import uid_of_keyword
from support.processes import ENVIRONMENT

#: Groups in which elements repeat, and some beside them.
REPEATING_GROUPS = [0x0020, 0x0028, 0x1000, 0x1010, *range(0x5000, 0x5020), *range(0x6000, 0x6020)]

tags = st.one_of(
    st.sampled_from(sorted(datadict.DicomDictionary)),
    st.builds(
        lambda group, element: group << 16 | element,
        st.sampled_from([*REPEATING_GROUPS, 0x7F00, 0x7FE0]),
        st.integers(0, 0xFFFF),
    ),
    st.integers(0, 0xFFFFFFFF),
)


def vr_of_pydicom(tag: int) -> str:
    try:
        return datadict.dictionary_VR(tag)
    except KeyError:
        return "UN"


def name_of_pydicom(tag: int) -> str:
    try:
        return datadict.dictionary_description(tag)
    except KeyError:
        return ""


@given(tags)
def test_an_element_has_the_vr_and_the_keyword_that_pydicom_gives_it(tag):
    assert dictionary_vr_choice(tag) == vr_of_pydicom(tag)
    assert keyword_for_tag(tag) == datadict.keyword_for_tag(tag)
    assert name_for_tag(tag) == name_of_pydicom(tag)


def test_every_element_is_found_by_its_keyword():
    for tag in datadict.DicomDictionary:
        keyword = keyword_for_tag(tag)
        assert tag_for_keyword(keyword) == datadict.tag_for_keyword(keyword)
    assert tag_for_keyword("PatientsShoeSize") is None


@pytest.mark.parametrize(
    ("tag", "vr", "keyword"),
    [
        (0x60003000, "OB or OW", "OverlayData"),
        (0x601E3000, "OB or OW", "OverlayData"),
        (0x60013000, "UN", ""),  # odd: private
        (0x002031FF, "CS", "SourceImageIDs"),
        (0x50FE0010, "US", "NumberOfPoints"),
    ],
)
def test_elements_of_repeating_groups_are_known_in_each_of_them(tag, vr, keyword):
    assert (dictionary_vr_choice(tag), keyword_for_tag(tag)) == (vr, keyword)


def test_a_group_length_is_UL_and_a_private_element_UN():
    assert dictionary_vr(0x00090000) == "UL"
    assert dictionary_vr(0x00091010) == "UN"


def test_where_the_dictionary_leaves_a_choice_the_first_counts():
    assert dictionary_vr_choice(0x00280106) == "US or SS"
    assert dictionary_vr(0x00280106) == "US"


@pytest.mark.parametrize("creator", ["SIEMENS CSA HEADER", "GEMS_IDEN_01", "ACUSON", "nobody"])
def test_private_elements_have_the_vr_that_pydicom_gives_them(creator):
    patterns = private_dictionaries.get(creator, {"0029xx10": ()})
    for pattern in patterns:
        tag = int(pattern.replace("x", "1"), 16)
        for each in (tag, tag ^ 0x80):
            try:
                expected = datadict.private_dictionary_VR(each, creator)
            except KeyError:
                expected = "UN"
            assert dictionary_vr_choice(each, creator) == expected


def test_a_uid_is_found_by_its_keyword():
    assert uid_of_keyword("CTImageStorage") == "1.2.840.10008.5.1.4.1.1.2"
    assert uid_of_keyword("MRIOfAUnicorn") is None


def test_pydicom_has_the_same_tables_and_not_a_copy_of_them():
    assert pydicom_tables.ELEMENTS is datadict.DicomDictionary
    assert pydicom_tables.UIDS is UID_dictionary
    assert pydicom_tables.private_elements() is private_dictionaries


def test_tables_are_read_without_pydicom_and_pydicom_imports_them_afterwards():
    code = (
        "import sys\n"
        "from isocenter.services.dicom.data_dictionary import dictionary_vr_choice as vr\n"
        "assert vr(0x00100010) == 'PN' and vr(0x00291010, 'SIEMENS CSA HEADER') == 'OB'\n"
        "assert 'pydicom' not in sys.modules and 'numpy' not in sys.modules\n"
        "import pydicom.datadict\n"
        "from isocenter.services.dicom.pydicom_tables import ELEMENTS\n"
        "assert pydicom.datadict.DicomDictionary is ELEMENTS\n"
        "assert pydicom.Dataset().get('PatientName') is None\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=False, env=ENVIRONMENT)
    assert ended.returncode == 0
