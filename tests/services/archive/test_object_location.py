from __future__ import annotations

import pytest

from isocenter.services.archive.object_location import StoreKind, parse_object_location


@pytest.mark.parametrize(
    ("text", "kind", "bucket", "prefix"),
    [
        ("s3://pacs", StoreKind.S3, "pacs", ""),
        ("s3://pacs/a/b/?region=eu-central-1", StoreKind.S3, "pacs", "a/b"),
        (
            "s3://pacs/a?endpoint=https://s3.example.org:9000&region=x&virtual_host=true",
            StoreKind.S3,
            "pacs",
            "a",
        ),
        ("az://images/x?account=hospital", StoreKind.AZURE, "images", "x"),
        ("file:///srv/a%20b", StoreKind.FILES, "/srv/a b", ""),
    ],
)
def test_a_location_is_read(text: str, kind: StoreKind, bucket: str, prefix: str) -> None:
    location = parse_object_location(text)
    assert (location.kind, location.bucket, location.prefix) == (kind, bucket, prefix)
    if kind is not StoreKind.FILES:
        assert parse_object_location(str(location)) == location


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pacs", "must begin with"),
        ("http://pacs", "must begin with"),
        ("s3://", "bucket or container is missing"),
        ("s3:///prefix", "bucket or container is missing"),
        ("s3://p cs", "bucket or container is missing"),
        ("s3://user:SECRET@pacs", "credentials do not belong"),
        ("s3://pacs?secret_access_key=SECRET", "does not belong into the URL"),
        ("az://pacs?sig=SECRET", "does not belong into the URL"),
        ("s3://pacs?endpoint=https://user:SECRET@host", "endpoint must be"),
        ("s3://pacs?endpoint=host:9000", "endpoint must be"),
        ("s3://pacs?zone=1", "there is no parameter zone"),
        ("az://pacs?region=1", "there is no parameter region"),
        ("s3://pacs?region=", "needs one value"),
        ("s3://pacs?region=a&region=b", "needs one value"),
        ("s3://pacs?virtual_host=yes", "virtual_host must be"),
        ("s3://pacs?checksum=md5", "checksum must be sha256 or none"),
        ("s3://pacs/../x", "the prefix may have"),
        ("s3://pacs/a//b", "the prefix may have"),
        ("s3://pacs#x", "no meaning"),
        ("file://srv/x", "absolute path"),
        ("file:relative", "absolute path"),
        ("file:///srv?x=1", "there is no parameter x"),
    ],
)
def test_what_is_none_is_refused_without_showing_secrets(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        parse_object_location(text)
    assert "SECRET" not in str(caught.value)
