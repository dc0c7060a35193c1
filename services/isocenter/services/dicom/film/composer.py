"""Composer of films: hands them to processes that compose them."""

from __future__ import annotations

from typing import Final

import trio

from isocenter.services.dicom.film.film import Film
from isocenter.services.dicom.pixels.pool import CodecPool

#: Bytes of a pixel in colour.
_SAMPLES: Final = 3


async def compose_film(pool: CodecPool, film: Film) -> bytes:
    """The PNG of a film, gray or RGB, of 8 bits.

    Raises:
        PixelError: it cannot be made.
    """
    width, height = film.pixel_size
    images = [image.data for image in film.images if image is not None]
    pixels = await trio.to_thread.run_sync(b"".join, images)
    return await pool.compose(film.to_json(), pixels, width * height * _SAMPLES)
