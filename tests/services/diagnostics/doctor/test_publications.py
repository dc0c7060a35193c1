"""Check of publications."""

from __future__ import annotations

from isocenter.services.diagnostics.doctor.publications import assess_publications
from isocenter.services.integration.sharing.ports import Publication


def test_a_repository_that_is_up_to_date_is_well() -> None:
    result = assess_publications(["a"], {}, {"a": 3}, [], now=1e6)
    assert (result.findings, result.seen) == ((), "3 documents in 1 repository")


def test_a_job_that_is_at_work_is_no_fault() -> None:
    assert not assess_publications(["a"], {"a": (3, 1e6 - 60)}, {}, [], now=1e6).findings


def test_a_repository_that_is_behind_is_named_with_what_went_wrong() -> None:
    behind = [
        Publication(repository="a", study_instance_uid="1.1", fault="it answered 503"),
        Publication(repository="a", study_instance_uid="1.2"),
        Publication(repository="b", study_instance_uid="1.2", fault="another"),
    ]
    result = assess_publications(["a", "b"], {"a": (2, 1e6 - 7_200)}, {}, behind, now=1e6)
    (found,) = result.findings
    assert "repository a is behind with 2 studies for 2 h: it answered 503" in found.text


def test_documents_in_a_repository_that_nobody_knows_any_more_are_told() -> None:
    (found,) = assess_publications(["a"], {}, {"a": 1, "gone": 4}, [], now=1e6).findings
    assert "4 documents of this archive stand in gone" in found.text
