"""A small AI service: it segments what is dense in a CT series, and measures it.

It speaks the inference protocol of Isocenter (docs/reference/inference-protocol.md), and really
computes something: voxels above a threshold in Hounsfield units become a segmentation (SEG), and
their volume and mean a measurement report (SR, TID 1500).  It is no medical device.

    python3 -m pip install highdicom
    python3 threshold_service.py --port 9000

and in the settings of the archive:

    [[ai_services]]
    name = "threshold"
    url = "http://127.0.0.1:9000"
    modalities = ["CT"]
    parameters = { threshold = "300" }
"""

from __future__ import annotations

import argparse
import hmac
import io
import json
import secrets
import ssl
import threading
import urllib.request
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
from pydicom.sr.codedict import codes

NAME, VERSION = "Threshold", "1.0"
MODEL = {
    "model_id": "threshold",
    "name": NAME,
    "version": VERSION,
    "description": "What is denser than a threshold, and how much of it there is.",
    "modalities": ["CT"],
    "sop_classes": ["1.2.840.10008.5.1.4.1.1.2"],
    "output_types": ["SEG", "SR"],
    "available": True,
}
MOST_BODY = 1 << 30
MOST_REQUESTS = 100
MOST_SERIES = 20


@dataclass
class Inference:
    """One request, and what has become of it."""

    job_id: str
    body: dict[str, Any]
    status: str = "pending"
    progress: int = 0
    error: str = ""
    created_at: str = field(default_factory=lambda: datetime.now().astimezone().isoformat())
    results: list[bytes] = field(default_factory=list)
    result_uids: list[str] = field(default_factory=list)

    def shown(self) -> dict[str, Any]:
        """As the protocol has it."""
        return {
            "job_id": self.job_id, "status": self.status, "progress": self.progress,
            "error": self.error, "created_at": self.created_at, "result_uids": self.result_uids,
        }  # fmt: skip


class Service:
    """Series that were sent, and requests about them; nothing is kept on a disk."""

    def __init__(self, key: str = "") -> None:
        self.key = key
        self._lock = threading.Lock()
        self._series: OrderedDict[tuple[str, str], dict[str, pydicom.Dataset]] = OrderedDict()
        self._inferences: OrderedDict[str, Inference] = OrderedDict()
        self._by_request: dict[str, str] = {}

    def store(self, datasets: Sequence[pydicom.Dataset]) -> None:
        """Keep images, and forget those of earlier series."""
        with self._lock:
            for one in datasets:
                key = (one.StudyInstanceUID, one.SeriesInstanceUID)
                self._series.setdefault(key, {})[one.SOPInstanceUID] = one
                self._series.move_to_end(key)
            while len(self._series) > MOST_SERIES:
                self._series.popitem(last=False)

    def begin(self, body: dict[str, Any]) -> Inference:
        """Take a request; the same one again is the same one."""
        request_id = str(body.get("request_id", ""))
        with self._lock:
            known = self._inferences.get(self._by_request.get(request_id, ""))
            if known is not None:
                return known
            inference = Inference(secrets.token_hex(8), body)
            self._inferences[inference.job_id] = inference
            self._by_request[request_id] = inference.job_id
            while len(self._inferences) > MOST_REQUESTS:
                self._inferences.popitem(last=False)
        threading.Thread(target=self._work, args=(inference,), daemon=True).start()
        return inference

    def get(self, job_id: str) -> Inference | None:
        """A request by its name."""
        with self._lock:
            return self._inferences.get(job_id)

    def _work(self, inference: Inference) -> None:
        body = inference.body
        inference.status = "running"
        try:
            with self._lock:
                found = [
                    list(images.values())
                    for (study, series), images in self._series.items()
                    if study == body.get("study_instance_uid")
                    and body.get("series_instance_uid") in ("", None, series)
                ]
            if not found:
                raise ValueError("the series was not sent")
            threshold = float(body.get("parameters", {}).get("threshold", 200))
            for number, images in enumerate(found, 1):
                for made in analyse(images, threshold):
                    buffer = io.BytesIO()
                    made.save_as(buffer, enforce_file_format=True)
                    inference.results.append(buffer.getvalue())
                    inference.result_uids.append(made.SOPInstanceUID)
                inference.progress = 100 * number // len(found)
            inference.status = "completed"
        except Exception as error:  # whatever is wrong with the images of somebody else
            inference.status, inference.error = "failed", type(error).__name__
        self._call_back(str(body.get("callback_url", "")), inference)

    def _call_back(self, url: str, inference: Inference) -> None:
        if not url.startswith(("http://", "https://")):
            return
        content = json.dumps(inference.shown()).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(url, content, headers, method="POST")  # noqa: S310 - http
        try:
            urllib.request.urlopen(request, timeout=10).close()  # noqa: S310 - see above
        except OSError:
            pass  # whoever asked looks by itself, too


def analyse(images: Sequence[pydicom.Dataset], threshold: float) -> list[pydicom.Dataset]:
    """The segmentation of a CT series, and the report of it; nothing, where nothing is dense."""
    ordered = sorted(images, key=lambda one: float(one.ImagePositionPatient[2]))
    units = np.stack(
        [
            one.pixel_array * float(one.get("RescaleSlope", 1))
            + float(one.get("RescaleIntercept", 0))
            for one in ordered
        ]
    )
    mask = units > threshold
    if not mask.any():
        return []
    algorithm = hd.AlgorithmIdentificationSequence(
        name=NAME, version=VERSION,
        family=codes.cid7162.ArtificialIntelligence,
        parameters={"threshold": f"{threshold:g} HU"},
    )  # fmt: skip
    equipment: dict[str, Any] = {
        "manufacturer": "Isocenter examples", "manufacturer_model_name": NAME,
        "software_versions": VERSION, "device_serial_number": "1",
    }  # fmt: skip
    tracking = hd.UID()
    segmentation = hd.seg.Segmentation(
        source_images=ordered,
        pixel_array=mask.astype(np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[
            hd.seg.SegmentDescription(
                segment_number=1, segment_label="Dense tissue",
                segmented_property_category=codes.SCT.Tissue,
                segmented_property_type=codes.SCT.Bone,
                algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=algorithm,
                tracking_uid=tracking, tracking_id="dense tissue",
            )
        ],
        series_instance_uid=hd.UID(), series_number=900, sop_instance_uid=hd.UID(),
        instance_number=1, content_description="Dense tissue", series_description="Threshold",
        **equipment,
    )  # fmt: skip
    spacing = [float(one) for one in ordered[0].PixelSpacing]
    step = _step(ordered)
    measurements = [
        hd.sr.Measurement(
            name=codes.SCT.Volume, unit=codes.UCUM.CubicMillimeter,
            value=float(mask.sum()) * spacing[0] * spacing[1] * step,
            algorithm_id=hd.sr.AlgorithmIdentification(NAME, VERSION),
        ),
        hd.sr.Measurement(
            name=codes.DCM.AttenuationCoefficient, unit=codes.UCUM.HounsfieldUnit,
            value=float(units[mask].mean()), derivation=codes.SCT.Mean,
        ),
    ]  # fmt: skip
    group = hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=tracking, identifier="dense tissue"),
        referenced_segment=hd.sr.ReferencedSegment(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            segment_number=1,
            source_series=hd.sr.SourceSeriesForSegmentation(ordered[0].SeriesInstanceUID),
        ),
        finding_type=codes.SCT.Bone,
        measurements=measurements,
    )
    observer = hd.sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=hd.UID(), name=NAME, manufacturer_name="Isocenter examples",
            model_name=NAME, serial_number="1",
        ),
    )  # fmt: skip
    report = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=[group],
        title=codes.DCM.ImagingMeasurementReport,
    )
    document = hd.sr.Comprehensive3DSR(
        evidence=[segmentation, *ordered], content=report,
        series_instance_uid=hd.UID(), series_number=901, sop_instance_uid=hd.UID(),
        instance_number=1, series_description="Threshold: measurements",
        manufacturer="Isocenter examples", is_complete=True, is_final=False,
    )  # fmt: skip
    return [segmentation, document]


def _step(ordered: Sequence[pydicom.Dataset]) -> float:
    """Millimetres from one slice to the next."""
    if len(ordered) < 2:
        return float(ordered[0].get("SliceThickness") or 1)
    first, last = (np.array(ordered[place].ImagePositionPatient, float) for place in (0, -1))
    return float(np.linalg.norm(last - first)) / (len(ordered) - 1)


# -- HTTP --------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """Answers with what a `Service` does."""

    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Health, models, status, results."""
        if not self._is_known():
            return
        service = self.server.service
        match self.path.strip("/").split("/"):
            case ["health"]:
                self._json(200, {"status": "ok"})
            case ["models"]:
                self._json(200, {"models": [MODEL]})
            case ["models", name] if name == MODEL["model_id"]:
                self._json(200, MODEL)
            case ["inference", job_id] if (one := service.get(job_id)) is not None:
                self._json(200, one.shown())
            case ["inference", job_id, "results"] if (one := service.get(job_id)) is not None:
                self._parts(one.results)
            case _:
                self._json(404, {"error": "there is no such thing"})

    def do_POST(self) -> None:
        """Objects, and requests."""
        if not self._is_known():
            return
        body = self._body()
        if body is None:
            self._json(413, {"error": "too long, or of no length"})
        elif self.path == "/studies":
            self._store(body)
        elif self.path == "/inference":
            try:
                asked = json.loads(body)
                if not isinstance(asked, dict) or asked.get("model_id") not in ("", "threshold"):
                    raise ValueError
            except ValueError:
                self._json(400, {"error": "no request that can be understood"})
                return
            self._json(202, self.server.service.begin(asked).shown())
        else:
            self._json(404, {"error": "there is no such thing"})

    def do_DELETE(self) -> None:
        """Not wanted any more; what is being computed ends by itself."""
        if not self._is_known():
            return
        one = self.server.service.get(self.path.removeprefix("/inference/"))
        if one is None:
            self._json(404, {"error": "there is no such request"})
            return
        if one.status in ("pending", "running"):
            one.status = "cancelled"
        self._json(200, one.shown())

    def log_message(self, *args: Any) -> None:
        """Say nothing: paths are nobody's business."""

    def _is_known(self) -> bool:
        key = self.server.service.key
        said = self.headers.get("authorization", "")
        if key and not hmac.compare_digest(said.encode(), f"Bearer {key}".encode()):
            self.close_connection = True
            self._json(401, {"error": "show the key"})
            return False
        return True

    def _body(self) -> bytes | None:
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            pieces = []
            while length := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(length))
                self.rfile.readline()
                if sum(map(len, pieces)) > MOST_BODY:
                    return None
            self.rfile.readline()
            return b"".join(pieces)
        length = int(self.headers.get("content-length") or -1)
        return self.rfile.read(length) if 0 <= length <= MOST_BODY else None

    def _store(self, body: bytes) -> None:
        boundary = self.headers.get_param("boundary", header="content-type")
        parts = body.split(f"--{boundary}".encode())[1:-1]
        datasets = []
        for part in parts:
            content = part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
            datasets.append(pydicom.dcmread(io.BytesIO(content)))
        self.server.service.store(datasets)
        answer = pydicom.Dataset()
        answer.ReferencedSOPSequence = []
        for one in datasets:
            item = pydicom.Dataset()
            item.ReferencedSOPClassUID = one.SOPClassUID
            item.ReferencedSOPInstanceUID = one.SOPInstanceUID
            answer.ReferencedSOPSequence.append(item)
        self._send(200, "application/dicom+json", f"[{answer.to_json()}]".encode())

    def _parts(self, files: Sequence[bytes]) -> None:
        boundary = secrets.token_hex(16)
        head = f"--{boundary}\r\ncontent-type: application/dicom\r\n\r\n".encode()
        content = b"".join(head + file + b"\r\n" for file in files) + f"--{boundary}--".encode()
        self._send(
            200, f'multipart/related; type="application/dicom"; boundary={boundary}', content
        )

    def _json(self, status: int, value: Any) -> None:
        self._send(status, "application/json", json.dumps(value).encode())

    def _send(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class Server(ThreadingHTTPServer):
    """Listens for an archive."""

    daemon_threads = True

    def __init__(self, service: Service, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__((host, port), Handler)
        self.service = service
        self.host = host

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{self.host}:{self.server_port}"


def main() -> None:
    """Serve until somebody stops it."""
    parser = argparse.ArgumentParser(description="A small AI service for CT.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--key-file", type=Path, help="what callers have to show, on one line")
    parser.add_argument("--tls-cert", type=Path)
    parser.add_argument("--tls-key", type=Path)
    options = parser.parse_args()
    key = options.key_file.read_text().strip() if options.key_file else ""
    server = Server(Service(key), options.host, options.port)
    if options.tls_cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.tls_cert, options.tls_key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    print(f"ready at {server.url}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
