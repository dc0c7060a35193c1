"""A printer over an association in memory, and what is asked of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.film.composition import compose
from isocenter.services.dicom.film.film import Film
from isocenter.services.dicom.pixels.image import ImageDescription
from isocenter.services.notices import Notices
from isocenter.services.service_classes.client import ClientAssociation
from isocenter.services.service_classes.normalized.operations import (
    AnswerError,
    NServiceResponse,
    n_action,
    n_create,
    n_delete,
    n_get,
    n_set,
)
from isocenter.services.service_classes.print import attributes as tags
from isocenter.services.service_classes.print.manager import PrintJobManager
from isocenter.services.service_classes.print.printer import Printer
from isocenter.services.service_classes.print.scope import PrintLimits
from isocenter.services.service_classes.print.scp import PrintScp
from isocenter.services.service_classes.print.scu import PrintImage
from isocenter.services.testing.associations import associated
from isocenter.storage.stores import Stores, open_sqlite_stores

SESSION, BOX, LUT = "1.2.826.0.1.3680043.10.999.1", "1.2.826.0.1.3680043.10.999.2", "2.25.3"
CONTEXTS = (
    tags.GRAYSCALE_META, tags.PRINT_JOB, tags.PRESENTATION_LUT, tags.ANNOTATION_BOX,
    tags.PRINTER_CONFIGURATION,
)  # fmt: skip


async def composed(film: Film) -> bytes:
    """The film, composed in this process."""
    return compose(film)[0]


@dataclass(slots=True)
class PrinterCaller:
    """A client of the printer: each method is one operation, and gives its status."""

    association: ClientAssociation
    scp: PrintScp
    stores: Stores
    meta: str = tags.GRAYSCALE_META
    boxes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    last: NServiceResponse = field(default_factory=lambda: NServiceResponse(status=0))

    async def _status(self, awaited: Any) -> int:
        try:
            self.last = await awaited
        except AnswerError as error:
            self.last = error.answer
        return self.last.status

    async def create(self, sop_class: str, uid: str, context: str = "", **values: Any) -> int:
        given = dataset(**values)
        return await self._status(
            n_create(self.association, sop_class, uid, given, context=context or self.meta)
        )

    async def session(self, uid: str = SESSION, **values: Any) -> int:
        return await self.create(tags.FILM_SESSION, uid, **values)

    async def box(self, uid: str = BOX, session: str = SESSION, **values: Any) -> int:
        values.setdefault("ImageDisplayFormat", "STANDARD\\1,1")
        if session:
            values["ReferencedFilmSessionSequence"] = [reference(tags.FILM_SESSION, session)]
        status = await self.create(tags.FILM_BOX, uid, **values)
        made = self.last.attributes.to_dataset() if self.last.attributes else Dataset()
        self.boxes = [
            each.ReferencedSOPInstanceUID for each in made.get("ReferencedImageBoxSequence", [])
        ]
        self.notes = [
            each.ReferencedSOPInstanceUID
            for each in made.get("ReferencedBasicAnnotationBoxSequence", [])
        ]
        return status

    async def lut(self, uid: str = LUT, **values: Any) -> int:
        return await self.create(tags.PRESENTATION_LUT, uid, tags.PRESENTATION_LUT, **values)

    async def set(self, sop_class: str, uid: str, context: str = "", **values: Any) -> int:
        return await self._status(
            n_set(self.association, sop_class, uid, dataset(**values), context=context or self.meta)
        )

    async def image(self, position: int = 1, item: Dataset | None = None, **values: Any) -> int:
        is_colour = self.meta == tags.COLOR_META
        name = "BasicColorImageSequence" if is_colour else "BasicGrayscaleImageSequence"
        values.setdefault(name, [item or (colour_item() if is_colour else gray_item())])
        values.setdefault("ImageBoxPosition", position)
        image_class = tags.COLOR_IMAGE_BOX if is_colour else tags.GRAYSCALE_IMAGE_BOX
        return await self.set(image_class, self.boxes[position - 1], **values)

    async def print(self, sop_class: str = tags.FILM_BOX, uid: str = BOX, action: int = 1) -> int:
        return await self._status(
            n_action(self.association, sop_class, uid, action, context=self.meta)
        )

    async def delete(self, sop_class: str, uid: str, context: str = "") -> int:
        return await self._status(
            n_delete(self.association, sop_class, uid, context=context or self.meta)
        )

    async def get(
        self, sop_class: str, uid: str, asked: Sequence[int] = (), context: str = ""
    ) -> int:
        return await self._status(
            n_get(self.association, sop_class, uid, asked, context=context or self.meta)
        )

    @property
    def job(self) -> str:
        """The print job that the last response names."""
        assert self.last.attributes is not None
        (item,) = self.last.attributes.to_dataset()[0x21000500].value
        return str(item.ReferencedSOPInstanceUID)


@asynccontextmanager
async def printing(
    *,
    contexts: Sequence[str] = CONTEXTS,
    printer: Printer | None = None,
    limits: PrintLimits | None = None,
    most_jobs: int = 100,
    compose: Any = composed,
    **options: Any,
) -> AsyncIterator[PrinterCaller]:
    """A printer, and an association with it."""
    async with open_sqlite_stores(":memory:") as stores:
        manager = PrintJobManager(stores.print_jobs, most=most_jobs, notices=Notices())
        scp = PrintScp(printer or Printer(), manager, compose, limits=limits)
        proposed = [(uid, (EXPLICIT_VR_LITTLE_ENDIAN,)) for uid in contexts]
        async with associated([scp], proposed, **options) as association:
            yield PrinterCaller(association, scp, stores, contexts[0])


def dataset(**values: Any) -> Dataset:
    """A data set by keywords; those that are None are there, and empty."""
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def reference(sop_class: str, uid: str) -> Dataset:
    return dataset(ReferencedSOPClassUID=sop_class, ReferencedSOPInstanceUID=uid)


def pattern(rows: int = 32, columns: int = 32, bits: int = 8) -> np.ndarray[Any, Any]:
    """Pixels of which each is told from its neighbours."""
    number = np.arange(rows * columns).reshape(rows, columns)
    return (number * 37 % (1 << bits)).astype("<u1" if bits <= 8 else "<u2")


def gray_item(pixels: np.ndarray[Any, Any] | None = None, bits: int = 8, **values: Any) -> Dataset:
    """An item of Basic Grayscale Image Sequence."""
    shown = pattern(bits=bits) if pixels is None else pixels
    made = dataset(
        SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2", Rows=shown.shape[0],
        Columns=shown.shape[1], BitsAllocated=8 if bits <= 8 else 16, BitsStored=bits,
        HighBit=bits - 1, PixelRepresentation=0, PixelData=shown.tobytes(),
    )  # fmt: skip
    made["PixelData"].VR = "OW"
    return _changed(made, values)


def colour_item(pixels: np.ndarray[Any, Any] | None = None, **values: Any) -> Dataset:
    """An item of Basic Color Image Sequence, by plane."""
    shown = colours() if pixels is None else pixels
    made = dataset(
        SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=1,
        Rows=shown.shape[0], Columns=shown.shape[1], BitsAllocated=8, BitsStored=8, HighBit=7,
        PixelRepresentation=0, PixelData=np.ascontiguousarray(shown.transpose(2, 0, 1)).tobytes(),
    )  # fmt: skip
    made["PixelData"].VR = "OB"
    return _changed(made, values)


def _changed(made: Dataset, values: dict[str, Any]) -> Dataset:
    for keyword, value in values.items():
        if value is None:
            delattr(made, keyword)
        else:
            setattr(made, keyword, value)
    return made


def colours(rows: int = 32, columns: int = 32) -> np.ndarray[Any, Any]:
    """Pixels in colour, each another."""
    gray = pattern(rows, columns)
    return np.stack((gray, np.flipud(gray), np.fliplr(gray)), axis=-1)


def gray_image(pixels: np.ndarray[Any, Any], bits: int = 8) -> PrintImage:
    """An image for the SCU."""
    allocated = 8 if bits <= 8 else 16
    return PrintImage(
        image=ImageDescription(
            rows=pixels.shape[0], columns=pixels.shape[1], bits_allocated=allocated,
            bits_stored=bits, high_bit=bits - 1,
        ),
        pixels=pixels.tobytes(),
    )  # fmt: skip


def decoded(png: bytes) -> np.ndarray[Any, Any]:
    """The pixels of a PNG."""
    import imagecodecs

    return np.asarray(imagecodecs.png_decode(png))


def saved(folder: Path) -> list[str]:
    """Names of files in a folder."""
    return sorted(path.name for path in folder.iterdir())


def contains(film: np.ndarray[Any, Any], image: np.ndarray[Any, Any]) -> bool:
    """Whether the middle of *film* is *image*, and all around it black."""
    rows, columns = image.shape[:2]
    top, left = (film.shape[0] - rows) // 2, (film.shape[1] - columns) // 2
    for row in range(max(top - 3, 0), top + 4):
        for column in range(max(left - 3, 0), left + 4):
            if np.array_equal(film[row : row + rows, column : column + columns], image):
                around = film.copy()
                around[row : row + rows, column : column + columns] = 0
                return not around.any()
    return False
