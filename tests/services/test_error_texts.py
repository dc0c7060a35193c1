"""The text of an error, whatever it was made of."""

from __future__ import annotations

import errno

import pytest

from isocenter.services.errors import text_of


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ENOENT, "No such file or directory", "/x"), "No such file or directory"),
        (OSError("said by a library"), "said by a library"),
        (OSError(), "OSError"),
        (ValueError("no number"), "no number"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_it_is_never_empty_and_has_no_number(error: Exception, text: str) -> None:
    assert text_of(error) == text
