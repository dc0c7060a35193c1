"""Worker process: decodes, encodes and renders frames for `isocenter.services.dicom.pixels.pool`.

It is told by its first argument which file is the shared memory, by its second how many bytes of
address space it may take, and by its third how far it stands back behind others (nice(2)).  A line
of JSON on standard input asks for one frame, which lies at the beginning of the shared memory; a
line on standard output answers.  It has no other way to the world: no network, no file but that
one.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
from dataclasses import asdict
from typing import Any, BinaryIO, Final

from isocenter.services.dicom.pixels.errors import PixelError
from isocenter.services.dicom.pixels.image import ImageDescription

#: Of what a library says of a fault: enough to tell it, too little to fill a log.
_MAX_MESSAGE: Final = 300


def main(arguments: list[str]) -> None:
    """Answer requests until standard input ends."""
    shared, memory, niceness = arguments
    _limit_memory(int(memory))
    if hasattr(os, "nice"):
        os.nice(int(niceness))
    # Libraries that print must not speak for us.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    with open(int(shared) if shared.isdigit() else shared, "r+b", buffering=0) as file:
        for line in sys.stdin.buffer:
            answer = _answer(json.loads(line), file)
            answers.write(json.dumps(answer).encode() + b"\n")


def _limit_memory(most: int) -> None:
    try:
        import resource
    except ImportError:
        return  # Windows has none
    for what, limit in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, most)):
        try:
            resource.setrlimit(what, (limit, limit))
        except (ValueError, OSError):
            # macOS refuses a limit of memory, some sandboxes the call.  Sizes are judged before
            # anything is allocated all the same.
            pass


def _answer(request: dict[str, Any], file: BinaryIO) -> dict[str, Any]:
    try:
        with mmap.mmap(file.fileno(), request["capacity"]) as shared:
            result, image = _work(request, shared)
            shared[: len(result)] = result
        return {"length": len(result), "image": asdict(image)}
    except PixelError as error:
        return {"error": _printable(str(error))}
    except MemoryError:
        return {"error": "it takes more memory than a frame may", "failed": True}
    except BaseException as error:  # also the panic of a library in Rust
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return {"error": _printable(f"{type(error).__name__}: {error}")}


def _work(request: dict[str, Any], shared: mmap.mmap) -> tuple[bytes, ImageDescription]:
    frame = shared[: request["length"]]
    image = ImageDescription(**request["image"])
    match request["operation"]:
        case "decode":
            from isocenter.services.dicom.pixels.decoding import decode_frame

            return decode_frame(frame, image, request["syntax"], skip_bits=request["skip_bits"])
        case "encode":
            from isocenter.services.dicom.pixels.encoding import EncodingOptions, encode_frame

            options = EncodingOptions(**request["options"])
            return encode_frame(frame, image, request["syntax"], options)
        case "recompress":
            from isocenter.services.dicom.pixels.encoding import recompress_frame

            return recompress_frame(frame, request["syntax"]), image
        case "recognize":
            from isocenter.services.dicom.pixels.text_recognizer import recognize_frame

            return recognize_frame(frame, image), image
        case "render":
            from isocenter.services.dicom.pixels.rendering.frame_renderer import render_request

            return render_request(frame, request, image)
        case "film":
            from isocenter.services.dicom.film.composition import compose
            from isocenter.services.dicom.film.film import Film

            return compose(Film.from_json(request["film"]).with_pixels(frame))
        case other:
            raise AssertionError(other)


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)[:_MAX_MESSAGE]


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (KeyboardInterrupt, BrokenPipeError):
        pass
