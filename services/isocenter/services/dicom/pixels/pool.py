"""Pool of worker processes for frames, with memory and time limits.

Decoders are libraries in C that read what a peer sent.  One that crashes, hangs or takes all
memory costs the request that it worked for: its process is ended, and the next request gets a new
one.  Frames and results travel through shared memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from mmap import mmap
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.pixels.encoding import EncodingOptions
from isocenter.services.dicom.pixels.errors import CodecFailedError, ImageError, PixelError
from isocenter.services.dicom.pixels.image import ImageDescription
from isocenter.services.dicom.pixels.transfer_syntaxes import decodable, encodable, viewable

#: Shared memory of a worker that is idle: what most frames need; more is given back.
_SHARED_AT_REST: Final = 24 << 20
#: What compressed data may be longer than the samples: headers, and noise that does not shrink.
_ENCODED_BESIDE: Final = 64 << 10
#: What a picture may be longer than its pixels: also an ICC profile.
_RENDERED_BESIDE: Final = 5 << 20
#: To read a picture takes longer than to decode it, and the models are loaded first.
_READING_PATIENCE: Final = 6
#: A film has many images.
_COMPOSING_PATIENCE: Final = 4
#: Of the texts in a picture.
_MOST_TEXT_BYTES: Final = 2 << 20
_MAX_ANSWER: Final = 64 << 10
_WORKER: Final = "isocenter.services.dicom.pixels.worker"
#: A process that was killed is waited for so long, in seconds.
_GOODBYE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """What decoding and encoding may take.

    Attributes:
        workers: processes at once.
        frame_bytes: the longest frame, decoded or not.  A whole body radiograph has some 50 MB.
        memory_bytes: address space of one worker; its libraries take some 500 MB of it.
        seconds: for one frame.
        niceness: of the processes: 19 is what everything else comes before (POSIX).
    """

    workers: int = 2
    frame_bytes: int = 512 << 20
    memory_bytes: int = 3 << 30
    seconds: float = 30.0
    niceness: int = 0


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """The samples of one frame.

    Attributes:
        samples: of Bits Allocated, little endian, pixel by pixel; single bits are bytes.
        image: what they are now: see `isocenter.services.dicom.pixels.decoding`.
    """

    samples: bytes
    image: ImageDescription


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderRequest:
    """What `isocenter.services.dicom.pixels.rendering` has a worker do.

    Attributes:
        data: the presentation state, then of each frame its header and its bytes.
        frames: number from 0 on, length of the header, length and `skip_bits` of each frame.
        encoding: of the headers: implicit VR, big endian.
        options: see `RenderOptions.to_json`.
        most: bytes of the picture, before it is compressed.
    """

    data: bytes
    frames: Sequence[tuple[int, int, int, int]]
    encoding: tuple[bool, bool]
    state_length: int
    state_encoding: tuple[bool, bool]
    options: Mapping[str, object]
    milliseconds: float
    most: int


class CodecPool:
    """Decodes and encodes frames in a few processes; an asynchronous context manager.

    Processes begin when they are needed, and end with the pool.
    """

    def __init__(self, limits: PoolLimits | None = None) -> None:
        self.limits = limits or PoolLimits()
        self._room = trio.Semaphore(self.limits.workers)
        self._idle: list[_Worker] = []
        #: Processes that were ended because they failed.
        self.failures = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        workers, self._idle = self._idle, []
        for worker in workers:
            await worker.end()

    def check(self, image: ImageDescription, transfer_syntax_uid: str) -> None:
        """Raise `PixelError` where frames of *image* cannot be decoded, whatever they hold."""
        decodable(transfer_syntax_uid)
        self._check_size(image)

    def check_viewing(self, image: ImageDescription, transfer_syntax_uid: str) -> None:
        """Raise `PixelError` where frames of *image* cannot be shown, whatever they hold."""
        viewable(transfer_syntax_uid)
        self._check_size(image)

    def _check_size(self, image: ImageDescription) -> None:
        image.check()
        longest = max(image.decoded_length, image.frame_length)
        if longest > self.limits.frame_bytes:
            raise ImageError(
                f"a frame of {longest} bytes; at most {self.limits.frame_bytes} are decoded"
            )

    async def decode(
        self,
        frame: bytes,
        image: ImageDescription,
        transfer_syntax_uid: str,
        *,
        skip_bits: int = 0,
    ) -> DecodedFrame:
        """The samples of one frame.

        Args:
            frame: its bytes as they lie in Pixel Data, fragments joined.
            skip_bits: see `isocenter.engine.dataset.Frame`.

        Raises:
            PixelError: it cannot be decoded.
        """
        self.check(image, transfer_syntax_uid)
        request = {"operation": "decode", "skip_bits": skip_bits}
        result, decoded = await self._request(
            request, frame, image, transfer_syntax_uid, image.decoded_length
        )
        if len(result) != decoded.decoded_length:
            raise CodecFailedError("the decoder gave another number of bytes than it said")
        return DecodedFrame(result, decoded)

    async def encode(
        self,
        frame: DecodedFrame,
        transfer_syntax_uid: str,
        options: EncodingOptions | None = None,
    ) -> tuple[bytes, ImageDescription]:
        """One frame of a compressed transfer syntax, and the description that the data set gets.

        Raises:
            PixelError: it cannot be encoded.
        """
        encodable(transfer_syntax_uid)
        request = {"operation": "encode", "options": asdict(options or EncodingOptions())}
        most = 2 * len(frame.samples) + _ENCODED_BESIDE
        return await self._request(request, frame.samples, frame.image, transfer_syntax_uid, most)

    async def recompress(
        self, frame: bytes, image: ImageDescription, transfer_syntax_uid: str
    ) -> bytes:
        """A JPEG frame as JPEG XL, or (`JPEG_BASELINE`) such a one as the JPEG that it was.

        Raises:
            PixelError: it cannot be.
        """
        encodable(transfer_syntax_uid)
        most = 2 * max(len(frame), image.decoded_length) + _ENCODED_BESIDE
        request = {"operation": "recompress"}
        return (await self._request(request, frame, image, transfer_syntax_uid, most))[0]

    async def recognize(self, frame: DecodedFrame) -> list[tuple[str, int, int, int, int]]:
        """Texts in a frame, each with the left, top, width and height of its box.

        Raises:
            PixelError: the extra is not installed, or they cannot be recognized.
        """
        request = {"operation": "recognize"}
        result, _ = await self._request(
            request, frame.samples, frame.image, "", _MOST_TEXT_BYTES,
            seconds=self.limits.seconds * _READING_PATIENCE,
        )  # fmt: skip
        return [
            (str(text), int(x), int(y), int(width), int(height))
            for text, x, y, width, height in json.loads(result)
        ]

    async def render(
        self, request: RenderRequest, image: ImageDescription, transfer_syntax_uid: str
    ) -> tuple[bytes, ImageDescription]:
        """A picture as a file, and what it is.

        Raises:
            PixelError: it cannot be made.
        """
        self.check_viewing(image, transfer_syntax_uid)
        whole = {
            "operation": "render",
            "frames": request.frames,
            "encoding": request.encoding,
            "state_length": request.state_length,
            "state_encoding": request.state_encoding,
            "options": request.options,
            "milliseconds": request.milliseconds,
            "most": request.most,
        }
        if request.most > self.limits.frame_bytes:
            raise ImageError(
                f"a picture of {request.most} bytes; at most {self.limits.frame_bytes} are made"
            )
        most = 2 * request.most + _RENDERED_BESIDE
        return await self._request(whole, request.data, image, transfer_syntax_uid, most)

    async def compose(self, film: Mapping[str, object], pixels: bytes, most: int) -> bytes:
        """A film (`Film.to_json`) as a PNG.

        Args:
            pixels: of its images, one after the other.
            most: bytes of the film, before it is compressed.

        Raises:
            PixelError: it cannot be made.
        """
        if most > self.limits.frame_bytes:
            raise ImageError(
                f"a film of {most} bytes; at most {self.limits.frame_bytes} are composed"
            )
        request = {"operation": "film", "film": film}
        whole = ImageDescription(rows=1, columns=1)
        made, _ = await self._request(
            request, pixels, whole, "", 2 * most + _ENCODED_BESIDE,
            seconds=self.limits.seconds * _COMPOSING_PATIENCE,
        )  # fmt: skip
        return made

    async def _request(
        self,
        request: Mapping[str, object],
        frame: bytes,
        image: ImageDescription,
        transfer_syntax_uid: str,
        most: int,
        *,
        seconds: float | None = None,
    ) -> tuple[bytes, ImageDescription]:
        seconds = seconds or self.limits.seconds
        if len(frame) > self.limits.frame_bytes:
            raise ImageError(
                f"a frame of {len(frame)} bytes; at most {self.limits.frame_bytes} are read"
            )
        whole = {
            **request,
            "syntax": transfer_syntax_uid,
            "image": asdict(image),
            "length": len(frame),
        }
        async with self._room:
            worker = self._idle.pop() if self._idle else await self._begin()
            is_well = False
            try:
                with trio.move_on_after(seconds) as scope:
                    answer = await worker.request(whole, frame, max(most, len(frame)))
                if scope.cancelled_caught:
                    raise CodecFailedError(f"the frame took more than {seconds:g} s")
                is_well = not answer.get("failed")
            finally:
                if is_well:
                    self._idle.append(worker)
                else:
                    self.failures += 1
                    await worker.end()
            if "error" in answer:
                raise (ImageError if is_well else CodecFailedError)(answer["error"])
            return worker.result(answer["length"]), ImageDescription(**answer["image"])

    async def _begin(self) -> _Worker:
        return await _Worker.begin(self.limits.memory_bytes, self.limits.niceness)


class _Worker:
    """One process, and the memory that is shared with it."""

    def __init__(self, process: trio.Process, file: BinaryIO, path: Path | None) -> None:
        self._process = process
        self._file = file
        self._path = path
        self._shared: mmap | None = None
        self._capacity = 0

    @classmethod
    async def begin(cls, memory_bytes: int, niceness: int) -> Self:
        file, path = _shared_file()
        try:
            name = str(path or file.fileno())
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", _WORKER, name, str(memory_bytes), str(niceness)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=_environment(),
                **_options(file, path),
            )
        except OSError as error:
            file.close()
            raise CodecFailedError(f"no process to decode in: {error}") from error
        return cls(process, file, path)

    async def request(
        self, request: Mapping[str, object], frame: bytes, capacity: int
    ) -> dict[str, Any]:
        """What it answers.

        Raises:
            CodecFailedError: it died.
        """
        capacity = max(capacity, _SHARED_AT_REST)
        if capacity > self._capacity or self._capacity > capacity == _SHARED_AT_REST:
            self._share(capacity)
        shared = self._shared
        assert shared is not None
        shared[: len(frame)] = frame
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = json.dumps({**request, "capacity": self._capacity}).encode() + b"\n"
        received = b""
        try:
            await self._process.stdin.send_all(line)
            while not received.endswith(b"\n"):
                piece = await self._process.stdout.receive_some(_MAX_ANSWER)
                if not piece or len(received) > _MAX_ANSWER:
                    raise trio.BrokenResourceError
                received += piece
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            with trio.move_on_after(_GOODBYE_SECONDS):
                await self._process.wait()
            code = self._process.returncode
            raise CodecFailedError(f"the decoder died over the frame (exit code {code})") from error
        answer: dict[str, Any] = json.loads(received)
        return answer

    def result(self, length: int) -> bytes:
        assert self._shared is not None
        return self._shared[:length]

    def _share(self, capacity: int) -> None:
        if self._shared is not None:
            self._shared.close()
            self._shared = None
        self._file.truncate(capacity)
        self._shared = mmap(self._file.fileno(), capacity)
        self._capacity = capacity

    async def end(self) -> None:
        process = self._process
        process.kill()
        with trio.move_on_after(_GOODBYE_SECONDS, shield=True):
            await process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with trio.CancelScope(shield=True), suppress(OSError):
                    await stream.aclose()
        if self._shared is not None:
            self._shared.close()
        self._file.close()
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()


def _shared_file() -> tuple[BinaryIO, Path | None]:
    """Memory that has a file descriptor; where there is none, a file that has a name."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("frame"), "r+b", buffering=0), None
    descriptor, name = tempfile.mkstemp(prefix="isocenter-")
    return os.fdopen(descriptor, "r+b", buffering=0), Path(name)


def _options(file: BinaryIO, path: Path | None) -> dict[str, Any]:
    options: dict[str, Any] = {} if path is not None else {"pass_fds": (file.fileno(),)}
    if os.name == "posix":
        # Ctrl-C is for us: we end the workers.
        options["start_new_session"] = True
    return options


def _environment() -> dict[str, str]:
    """One thread for each process, and nothing secret that a decoder could be made to tell."""
    names = ("PATH", "PYTHONPATH", "PYTHONHOME", "SYSTEMROOT", "LANG", "TMPDIR", "TEMP", "TMP")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return kept | dict.fromkeys(threads, "1")


__all__ = ["CodecPool", "DecodedFrame", "PixelError", "PoolLimits"]
