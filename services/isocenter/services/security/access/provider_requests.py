"""Requests to an identity provider, within bounds; they block."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from typing import Final

#: A set of some keys with their certificates has tens of kilobytes.
_MOST_BYTES: Final = 1 << 20
#: From the question to the last byte of the answer.
FETCH_SECONDS: Final = 5.0


def ask_provider(
    url: str,
    context: ssl.SSLContext,
    *,
    form: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[int, bytes]:
    """Status and body of what is at *url*.

    Args:
        form: to be sent by POST; None: it is a GET.

    Raises:
        OSError: it cannot be had; the message says why.
    """
    import httpx  # a tenth of a second that only who needs it waits for

    deadline = clock() + FETCH_SECONDS
    said = {"accept": "application/json", "accept-encoding": "identity", **(headers or {})}
    try:
        with (
            # Straight to where the settings say: no proxy of the environment, no other place.
            httpx.Client(
                verify=context, trust_env=False, follow_redirects=False, timeout=FETCH_SECONDS
            ) as client,
            client.stream(
                "GET" if form is None else "POST",
                url,
                headers=said,
                data=None if form is None else dict(form),
            ) as answer,
        ):
            content = bytearray()
            for piece in answer.iter_raw():
                content += piece
                if len(content) > _MOST_BYTES:
                    raise OSError(f"more than {_MOST_BYTES} bytes")
                if clock() > deadline:
                    raise OSError(f"no whole answer within {FETCH_SECONDS:g} s")
            return answer.status_code, bytes(content)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
