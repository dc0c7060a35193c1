"""A printer put together: what it shares with the rest of the server, and what not."""

from __future__ import annotations

from typing import Any

import trio

from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services import composition
from isocenter.services.composition.services import build_services_and_workflow
from isocenter.services.composition.transcoding import open_transcoder
from isocenter.services.dicom.pixels.image import ImageDescription
from isocenter.services.notices import Notices
from isocenter.services.service_classes.print import attributes as tags
from isocenter.services.service_classes.print.scp import PrintScp
from isocenter.services.settings.loading import load_settings
from isocenter.services.testing.associations import associated
from services.service_classes.print.samples import PrinterCaller

SECONDS = 60


async def test_films_and_images_do_not_wait_for_each_other() -> None:
    """Nobody who prints can keep all processes that render for others busy, nor they those."""
    values: dict[str, Any] = {
        "storage.data_dir": ":memory:",
        "print.enabled": True,
        "print.outputs": [],
        "transcoding.workers": 1,
    }
    settings = load_settings(environ={}, overrides=values)
    notices = Notices()
    image = ImageDescription(rows=2, columns=2)
    async with (
        composition.open_archive_parts(settings) as parts,
        open_transcoder(settings, notices) as transcoder,
    ):
        assert transcoder is not None
        registry, workflow = build_services_and_workflow(
            settings, parts.archive, parts.stores, None, notices=notices, transcoder=transcoder
        )
        (scp,) = [one for one in registry.services if isinstance(one, PrintScp)]
        assert workflow.printing is not None
        films = workflow.printing.films._pool
        proposed = [(tags.GRAYSCALE_META, (EXPLICIT_VR_LITTLE_ENDIAN,))]
        with trio.fail_after(SECONDS):
            async with films, associated([scp], proposed) as association:
                caller = PrinterCaller(association, scp, parts.stores)
                await caller.session()
                await caller.box()
                await caller.image()
                async with transcoder.pool._room:  # a film of an image that never comes
                    assert await caller.print() == 0
                async with films._room:
                    decoded = await transcoder.pool.decode(
                        bytes(4), image, EXPLICIT_VR_LITTLE_ENDIAN
                    )
                    assert decoded.samples == bytes(4)
