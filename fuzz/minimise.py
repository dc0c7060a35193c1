"""Smaller inputs with the same fault."""

from __future__ import annotations

import traceback
from typing import Final

from bounds import Run, run_measured, run_timed

#: Inputs that are tried to make one smaller.
_TRIES: Final = 3_000


def failure_of(run: Run, data: bytes) -> Exception | None:
    """What an input breaks: the invariant, or the bounds of time and memory."""
    for run_one in (run_timed, run_measured):
        try:
            run_one(run, data)
        except Exception as error:
            return error
    return None


def minimise(run: Run, data: bytes) -> bytes:
    """*data* with pieces left out and bytes made zero, as long as it fails at the same place.

    Returns *data* itself when it does not fail.
    """
    wanted = _place(failure_of(run, data))
    if wanted is None:
        return data
    tries = 0
    size = len(data) // 2
    while size and tries < _TRIES:
        position = 0
        while position < len(data) and tries < _TRIES:
            smaller = data[:position] + data[position + size :]
            tries += 1
            if _place(failure_of(run, smaller)) == wanted:
                data = smaller
            else:
                position += size
        size //= 2
    for position in range(len(data)):
        simpler = data[:position] + b"\0" + data[position + 1 :]
        if tries < _TRIES and simpler != data:
            tries += 1
            if _place(failure_of(run, simpler)) == wanted:
                data = simpler
    return data


def _place(error: Exception | None) -> tuple[type[Exception], str, int | None] | None:
    """Where it was raised; all that took too long or held too much count as one place."""
    if error is None:
        return None
    last = traceback.extract_tb(error.__traceback__)[-1]
    return type(error), last.filename, last.lineno
