"""Encrypted Attributes Sequence: the originals, sealed (PS3.15 E.1.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from isocenter.engine.dataset import EXPLICIT_LITTLE, Encoding, Reencoder, Survey
from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.data_dictionary import dictionary_vr_choice
from isocenter.services.dicom.data_set_nodes import Node
from isocenter.services.dicom.data_set_tree import DataSetTree
from isocenter.services.dicom.deidentification.new_items import add_item

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_SEQUENCE: Final = 0x04000500
_TRANSFER_SYNTAX: Final = 0x04000510
_CONTENT: Final = 0x04000520
_MODIFIED_ATTRIBUTES: Final = 0x04000550
_PIXEL_GROUP: Final = 0x7FE0
#: Of what is encrypted, which is held.
_MOST_BYTES: Final = 64 << 20


class EncryptionError(IsocenterError):
    """Originals that cannot be encrypted, or opened."""

    error_code = ErrorCode.DEIDENTIFICATION


def load_recipients(pem: bytes) -> list[Certificate]:
    """The certificates in *pem*.

    Raises:
        EncryptionError: there are none, or one has no RSA key.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise EncryptionError(f"no certificates in PEM: {error}") from None
    for certificate in found:
        if not isinstance(certificate.public_key(), RSAPublicKey):
            raise EncryptionError(
                "who is to open the originals needs a certificate with an RSA key"
            )
    return found


def original_attributes(tree: DataSetTree, encoding: Encoding) -> bytes:
    """The attributes of the data set itself that were changed or removed, as they were, in explicit
    VR little endian; pixels excepted.

    Raises:
        EncryptionError: they are too long.
        DataSetError: they cannot be encoded.
    """
    pieces = []
    length = 0
    for node in tree.root.elements:
        is_other = node.is_changed or node.is_erased
        if (
            node.start < 0
            or not is_other
            or node.tag >> 16 >= _PIXEL_GROUP
            or not node.tag & 0xFFFF
        ):
            continue
        pieces.append(bytes(tree.data[node.start : node.end]))
        length += len(pieces[-1])
        if length > _MOST_BYTES:
            raise EncryptionError("the originals are longer than 64 MiB")
    data = b"".join(pieces)
    plain = Encoding(encoding.implicit_vr, encoding.big_endian)
    if not Survey.is_needed(plain, EXPLICIT_LITTLE):
        return data
    survey = Survey(plain, EXPLICIT_LITTLE, dictionary_vr_choice)
    survey.feed(data)
    survey.finish()
    reencoder = Reencoder(plain, EXPLICIT_LITTLE, dictionary_vr_choice, odd=survey.odd)
    return b"".join(map(bytes, [*reencoder.feed(data), *reencoder.finish()]))


def add_encrypted(tree: DataSetTree, attributes: bytes, recipients: Sequence[Certificate]) -> None:
    """Put *attributes* into *tree*, encrypted for each of *recipients* (CMS, RFC 5652)."""
    from cryptography.hazmat.primitives.ciphers.algorithms import AES256
    from cryptography.hazmat.primitives.serialization import Encoding as Form
    from cryptography.hazmat.primitives.serialization.pkcs7 import (
        PKCS7EnvelopeBuilder,
        PKCS7Options,
    )

    builder = PKCS7EnvelopeBuilder().set_data(_wrapped(attributes))
    builder = builder.set_content_encryption_algorithm(AES256)
    for recipient in recipients:
        builder = builder.add_recipient(recipient)
    content = builder.encrypt(Form.DER, [PKCS7Options.Binary])
    root = tree.root
    for node in root.all(_SEQUENCE):
        root.erase(node)
    sequence = Node(_SEQUENCE, "SQ", root.codec, items=[])
    root.insert(sequence)
    syntax = EXPLICIT_VR_LITTLE_ENDIAN.encode("ascii")
    add_item(root, sequence, [(_TRANSFER_SYNTAX, "UI", syntax), (_CONTENT, "OB", content)])


def _wrapped(attributes: bytes) -> bytes:
    """An Encrypted Attributes Data Set: *attributes* in a Modified Attributes Sequence."""
    group, element = _MODIFIED_ATTRIBUTES >> 16, _MODIFIED_ATTRIBUTES & 0xFFFF
    item = b"\xfe\xff\x00\xe0" + len(attributes).to_bytes(4, "little") + attributes
    return (
        group.to_bytes(2, "little")
        + element.to_bytes(2, "little")
        + b"SQ\0\0"
        + len(item).to_bytes(4, "little")
        + item
    )
