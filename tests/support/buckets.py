"""S3 buckets for tests: one server of moto for all tests of a process."""

from __future__ import annotations

import itertools
import re
from functools import cache
from typing import Any

import httpx

from isocenter.services.archive.object_location import ObjectLocation, StoreKind
from isocenter.storage.objects.cloud.bucket import Bucket
from isocenter.storage.objects.cloud.connecting import ConnectOptions, connect_bucket

_numbers = itertools.count(1)


@cache
def s3_server() -> str:
    """The URL of an S3 server in this process; it ends with it."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    return f"http://{host}:{port}"


def new_location(prefix: str = "") -> ObjectLocation:
    """A bucket that was made just now."""
    name = f"bucket-{next(_numbers)}"
    httpx.put(f"{s3_server()}/{name}").raise_for_status()
    return ObjectLocation(
        kind=StoreKind.S3,
        bucket=name,
        prefix=prefix,
        parameters={"endpoint": s3_server(), "region": "us-east-1"},
    )


def connect(location: ObjectLocation, **options: Any) -> Bucket:
    """As an archive does."""
    return connect_bucket(location, ConnectOptions(**options))


def keys_in(location: ObjectLocation) -> list[str]:
    """What is in the bucket, as the server has it."""
    text = httpx.get(f"{s3_server()}/{location.bucket}?list-type=2").raise_for_status().text
    return re.findall(r"<Key>([^<]*)</Key>", text)
