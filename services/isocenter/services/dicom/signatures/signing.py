"""Digital signatures made and taken away (PS3.15 C.1, PS3.3 C.12.1.1.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dataset.vr import ENCAPSULATED_VRS
from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.data_set_nodes import ItemNode, Node
from isocenter.services.dicom.data_set_tree import DataSetTree
from isocenter.services.dicom.signatures.algorithms import (
    SIGNING_ALGORITHMS,
    SignatureError,
    digest_of,
    sign_digest,
)
from isocenter.services.dicom.signatures.mac_stream import (
    CERTIFICATE_OF_SIGNER,
    CERTIFIED_TIMESTAMP,
    CERTIFIED_TIMESTAMP_TYPE,
    DIGITAL_SIGNATURES_SEQUENCE,
    MAC_PARAMETERS_SEQUENCE,
    SIGNATURE,
    mac_pieces,
    signable_tags,
    signature_pieces,
)
from isocenter.services.dicom.signatures.profiles import (
    PURPOSE_SCHEME,
    PURPOSES,
    VERIFICATION_FLAG,
    VERIFICATION_PURPOSE,
    VERIFIED,
    Profile,
    check_document,
    missing_tags,
)
from isocenter.services.dicom.uids import new_uid

if TYPE_CHECKING:
    from cryptography import x509

    from isocenter.engine.buffers import Buffer
    from isocenter.services.dicom.signatures.algorithms import PrivateKey

MAC_ID: Final = 0x04000005
MAC_SYNTAX: Final = 0x04000010
MAC_ALGORITHM: Final = 0x04000015
DATA_ELEMENTS_SIGNED: Final = 0x04000020
SIGNATURE_UID: Final = 0x04000100
SIGNATURE_DATETIME: Final = 0x04000105
CERTIFICATE_TYPE: Final = 0x04000110
PURPOSE_SEQUENCE: Final = 0x04000401
X509: Final = "X509_1993_SIG"
CMS_TSP: Final = "CMS_TSP"
_CODE_VALUE: Final = 0x00080100
_CODING_SCHEME: Final = 0x00080102
_CODE_MEANING: Final = 0x00080104
#: MAC ID Numbers (0400,0005) are US.
_MOST_IDS: Final = 1 << 16
#: A value of VR AT behind a 16-bit length.
_MOST_TAGS: Final = 0xFFFC // 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Who signs, and how.

    Attributes:
        mac_algorithm: SHA256, SHA384 or SHA512.
        purpose: a code of `PURPOSES`; None: nothing is said, or what the profile wants.
        timestamp: makes a time stamp token (RFC 3161) of a signature; None: none is made.
    """

    key: PrivateKey
    certificate: x509.Certificate
    mac_algorithm: str = "SHA256"
    profile: Profile = Profile.BASE
    purpose: int | None = None
    timestamp: Callable[[bytes], bytes] | None = None

    def __post_init__(self) -> None:
        if self.mac_algorithm not in SIGNING_ALGORITHMS:
            raise SignatureError("sign with one of " + ", ".join(SIGNING_ALGORITHMS))
        if self.purpose is not None and self.purpose not in PURPOSES:
            raise SignatureError(f"a purpose is a number from 1 to {max(PURPOSES)}")
        if self.certificate.public_key() != self.key.public_key():
            raise SignatureError("the certificate is of another key")


@dataclass(frozen=True, slots=True)
class MadeSignature:
    """A signature that was made.

    Attributes:
        tags: what it covers.
    """

    uid: str
    tags: tuple[int, ...]


def sign(
    tree: DataSetTree,
    item: ItemNode,
    signer: Signer,
    *,
    transfer_syntax_uid: str,
    now: datetime,
    tags: Iterable[int] | None = None,
    watch: Callable[[Buffer], object] | None = None,
) -> MadeSignature:
    """Put a signature into a data set, or into an item of it; the tree is to be written then.

    Args:
        transfer_syntax_uid: that of the data set.
        now: with its offset from UTC.
        tags: what to sign; None: all that may be.
        watch: gets all bytes that the MAC covers, as they pass.

    Raises:
        SignatureError: there is nothing to sign, or a tag may not be signed, or the profile wants
            more to be.
    """
    signable = signable_tags(item)
    chosen = signable if tags is None else _chosen(signable, tags)
    _check(tree, item, signer, chosen, signable)
    syntax = transfer_syntax_uid if _is_encapsulated(tree.root) else EXPLICIT_VR_LITTLE_ENDIAN
    make = _Maker(tree, item)
    number = make.free_mac_id()
    make.add(
        MAC_PARAMETERS_SEQUENCE,
        [
            (MAC_ID, "US", make.us(number)),
            (MAC_SYNTAX, "UI", syntax.encode("ascii")),
            (MAC_ALGORITHM, "CS", signer.mac_algorithm.encode("ascii")),
            (DATA_ELEMENTS_SIGNED, "AT", b"".join(map(make.at, chosen))),
        ],
    )
    uid = new_uid()
    stamp = now.strftime("%Y%m%d%H%M%S.%f%z")
    signature = make.add(
        DIGITAL_SIGNATURES_SEQUENCE,
        [
            (MAC_ID, "US", make.us(number)),
            (SIGNATURE_UID, "UI", uid.encode("ascii")),
            (SIGNATURE_DATETIME, "DT", stamp.encode("ascii")),
            (CERTIFICATE_TYPE, "CS", X509.encode("ascii")),
        ],
    )
    purpose = signer.purpose
    if purpose is None and signer.profile in (Profile.SR, Profile.SR_VERIFICATION):
        is_final = signer.profile is Profile.SR_VERIFICATION
        purpose = VERIFICATION_PURPOSE if is_final else 1
    if purpose is not None:
        make.add_purpose(signature, purpose)

    def covered() -> Iterator[Buffer]:
        for found in (mac_pieces(tree, item, chosen), signature_pieces(tree, signature)):
            for piece in found:
                if watch is not None:
                    watch(piece)
                yield piece

    digest = digest_of(signer.mac_algorithm, covered())
    value = sign_digest(signer.key, signer.mac_algorithm, digest)
    from cryptography.hazmat.primitives.serialization import Encoding

    make.fill(signature, CERTIFICATE_OF_SIGNER, "OB", signer.certificate.public_bytes(Encoding.DER))
    make.fill(signature, SIGNATURE, "OB", value)
    if signer.timestamp is not None:
        make.fill(signature, CERTIFIED_TIMESTAMP_TYPE, "CS", CMS_TSP.encode("ascii"))
        make.fill(signature, CERTIFIED_TIMESTAMP, "OB", signer.timestamp(value))
    return MadeSignature(uid, tuple(chosen))


def remove(tree: DataSetTree, uid: str | None = None) -> int:
    """Take signatures away, wherever they are; how many.

    Args:
        uid: Digital Signature UID (0400,0100) of the one to go; None: all of them go.
    """
    count = 0
    for item in list(tree.items()):
        gone: set[bytes] = set()
        kept: set[bytes] = set()
        for node in item.all(DIGITAL_SIGNATURES_SEQUENCE):
            for signature in there(node):
                number = value_of(tree, signature, MAC_ID)
                found = value_of(tree, signature, SIGNATURE_UID).decode("ascii", "replace")
                if uid is not None and found.strip("\0 ") != uid:
                    kept.add(number)
                    continue
                count += 1
                gone.add(number)
                signature.touch()
                signature.is_erased = True
            if gone and not there(node):
                item.erase(node)
        for node in item.all(MAC_PARAMETERS_SEQUENCE) if gone else ():
            for parameters in there(node):
                number = value_of(tree, parameters, MAC_ID)
                if number not in kept and (uid is None or number in gone):
                    parameters.touch()
                    parameters.is_erased = True
            if not there(node):
                item.erase(node)
    return count


def there(node: Node) -> list[ItemNode]:
    """The items of a sequence."""
    return [item for item in node.items or () if not item.is_erased]


def value_of(tree: DataSetTree, item: ItemNode, tag: int) -> bytes:
    """The bytes of the value of an element of an item; empty where it is not there."""
    for node in item.all(tag):
        if node.items is None and not node.is_encapsulated:
            return tree.value(node)
    return b""


class _Maker:
    """Adds to the two sequences of a data set or item."""

    def __init__(self, tree: DataSetTree, item: ItemNode) -> None:
        self._tree = tree
        self._item = item

    def us(self, number: int) -> bytes:
        return number.to_bytes(2, "big" if self._item.codec.big_endian else "little")

    def at(self, tag: int) -> bytes:
        return self.us(tag >> 16) + self.us(tag & 0xFFFF)

    def free_mac_id(self) -> int:
        """The first MAC ID Number that nothing here has."""
        taken = {
            value_of(self._tree, inner, MAC_ID)
            for tag in (MAC_PARAMETERS_SEQUENCE, DIGITAL_SIGNATURES_SEQUENCE)
            for node in self._item.all(tag)
            for inner in there(node)
        }
        for number in range(_MOST_IDS):
            if self.us(number) not in taken:
                return number
        raise SignatureError("it has as many signatures as it can have")

    def add(self, tag: int, elements: Sequence[tuple[int, str, bytes]]) -> ItemNode:
        """Append an item to a sequence, which is made where it is not there."""
        nodes = self._item.all(tag)
        if nodes:
            sequence = nodes[-1]
        else:
            sequence = Node(tag, "SQ", self._item.codec, items=[])
            self._item.insert(sequence)
        if sequence.items is None:
            raise SignatureError(
                f"{tag_text(tag)} is no sequence; take the signatures away first (--remove)"
            )
        made = ItemNode(sequence.inner_codec, self._item, sequence)
        sequence.items.append(made)
        for inner, vr, value in elements:
            self.fill(made, inner, vr, value)
        made.touch()
        self._item.touch()
        return made

    def add_purpose(self, signature: ItemNode, purpose: int) -> None:
        """Say what a signature is for."""
        sequence = Node(PURPOSE_SEQUENCE, "SQ", signature.codec, items=[])
        signature.insert(sequence)
        code = ItemNode(sequence.inner_codec, signature, sequence)
        assert sequence.items is not None
        sequence.items.append(code)
        self.fill(code, _CODE_VALUE, "SH", str(purpose).encode("ascii"))
        self.fill(code, _CODING_SCHEME, "SH", PURPOSE_SCHEME.encode("ascii"))
        self.fill(code, _CODE_MEANING, "LO", PURPOSES[purpose].encode("ascii"))

    def fill(self, item: ItemNode, tag: int, vr: str, value: bytes) -> None:
        """Put an element into an item that was made here."""
        item.insert(Node(tag, vr, item.codec, value=value))


def _chosen(signable: Sequence[int], tags: Iterable[int]) -> list[int]:
    wanted = set(tags)
    for tag in sorted(wanted):
        if tag not in signable:
            raise SignatureError(
                f"{tag_text(tag)} is not there, or may not be signed (PS3.3 C.12.1.1.3.1.1)"
            )
    return [tag for tag in signable if tag in wanted]


def _check(
    tree: DataSetTree,
    item: ItemNode,
    signer: Signer,
    chosen: Sequence[int],
    signable: Sequence[int],
) -> None:
    if not chosen:
        raise SignatureError("nothing in it may be signed")
    if len(chosen) > _MOST_TAGS:
        raise SignatureError(f"more than {_MOST_TAGS} elements cannot be listed as signed")
    flag = value_of(tree, item, VERIFICATION_FLAG).strip(b" \0")
    check_document(signer.profile, signable, is_verified=flag == VERIFIED)
    missing = missing_tags(signer.profile, chosen, signable)
    if missing:
        some = ", ".join(map(tag_text, missing[:5]))
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise SignatureError(
            f"the profile {signer.profile.title} covers also {some}{more}; name them, or name "
            "none and sign all"
        )


def _is_encapsulated(root: ItemNode) -> bool:
    """Whether pixel data of the data set, or of an item of it, are compressed."""
    todo = [root]
    while todo:
        item = todo.pop()
        for node in item.elements:
            if node.is_encapsulated and node.vr in ENCAPSULATED_VRS:
                return True
            todo += there(node)
    return False
