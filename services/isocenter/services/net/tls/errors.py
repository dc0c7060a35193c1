"""Errors of TLS, each in one line with its cure: files, and handshakes.

OpenSSL's reasons for a failed handshake and X.509 verification codes stand in two tables;
whatever is not in them is named as OpenSSL names it.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError

#: How far an error may lie below the one that was raised (trio wraps once).
_CAUSES: Final = 4

_ISSUE: Final = "issue one (isocenter certs issue NAME)"
_OTHER_NAME: Final = (
    "connect by a name that is in it, or say whose it has to be (server_name of the peer, "
    "--tls-server-name)"
)
_SAME_CA: Final = "let both sides trust the CA that signed (ca.crt)"
_PEER_REFUSED: Final = "the peer refused our certificate"
_PLAIN: Final = (
    "the peer does not speak TLS on this port",
    "use the port that the peer serves TLS on, or the one in the clear",
)

#: OpenSSL's reason → (fault, cure).
_REASONS: Final = {
    "HTTP_REQUEST": ("an HTTP request came where a TLS handshake was due", "use a DICOM client"),
    "HTTPS_PROXY_REQUEST": (
        "a proxy request came where a TLS handshake was due",
        "use a DICOM client",
    ),
    "WRONG_VERSION_NUMBER": _PLAIN,
    "PACKET_LENGTH_TOO_LONG": _PLAIN,
    "UNEXPECTED_MESSAGE": _PLAIN,
    "RECORD_LAYER_FAILURE": _PLAIN,
    "UNSUPPORTED_PROTOCOL": (
        "the peer offers only TLS versions that are not safe",
        "update it to TLS 1.2 or 1.3 (RFC 8996)",
    ),
    "VERSION_TOO_LOW": (
        "the peer offers only TLS versions that are not safe",
        "update it to TLS 1.2 or 1.3 (RFC 8996)",
    ),
    "TLSV1_ALERT_PROTOCOL_VERSION": (
        "the peer supports none of our TLS versions",
        "let both sides allow TLS 1.2 or 1.3, or choose another tls.profile",
    ),
    "NO_SHARED_CIPHER": (
        "no cipher suite in common with the peer",
        "let the peer offer ECDHE with AES-GCM, or try tls.profile bcp195-modified",
    ),
    "SSLV3_ALERT_HANDSHAKE_FAILURE": (
        "the peer found no cipher suite, or misses a certificate of ours",
        "compare the TLS profiles of both sides, and give a client certificate",
    ),
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": ("the peer showed no certificate", _ISSUE),
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": (
        "the peer wants a certificate of ours",
        f"{_ISSUE} and give it with its key",
    ),
    "TLSV1_ALERT_UNKNOWN_CA": (f"{_PEER_REFUSED}: it does not know the CA", _SAME_CA),
    "SSLV3_ALERT_BAD_CERTIFICATE": (_PEER_REFUSED, "see the log of the peer"),
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": (
        f"{_PEER_REFUSED}: not for this purpose",
        "it needs the extended key usages serverAuth and clientAuth",
    ),
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": (
        f"{_PEER_REFUSED}: expired",
        "renew it, and compare the clocks",
    ),
    "SSLV3_ALERT_CERTIFICATE_REVOKED": (f"{_PEER_REFUSED}: revoked", _ISSUE),
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": (_PEER_REFUSED, "see the log of the peer"),
    "TLSV1_ALERT_DECRYPT_ERROR": (_PEER_REFUSED, "see the log of the peer"),
    "UNEXPECTED_EOF_WHILE_READING": (
        "the peer closed the connection during the handshake",
        "see the log of the peer; often it does not trust our certificate",
    ),
    "NO_RENEGOTIATION": ("the peer asked for renegotiation", "switch it off there"),
}

#: X509_V_ERR_… → (fault, cure).
_VERIFY_CODES: Final = {
    2: ("its issuer is unknown here", _SAME_CA),
    3: ("there is no revocation list of its issuer", "add it to tls.crl"),
    9: ("it is not valid yet", "compare the clocks"),
    10: ("it has expired", "renew it (isocenter certs renew)"),
    11: ("the revocation list is not valid yet", "compare the clocks"),
    12: ("the revocation list has expired", "renew it (isocenter certs renew)"),
    18: ("it is self-signed", "use one that the CA has signed"),
    19: ("its CA is not trusted here", _SAME_CA),
    20: ("its issuer is unknown here", _SAME_CA),
    21: ("its issuer is unknown here", _SAME_CA),
    22: ("its chain is too long", "let a CA nearer to the root sign"),
    23: ("it is revoked", _ISSUE),
    24: ("it was signed by something that is no CA", "use one that a CA has signed"),
    26: ("it is not for this purpose", "it needs extended key usage serverAuth and clientAuth"),
    62: ("it is for another host", _OTHER_NAME),
    64: ("it is for another address", _OTHER_NAME),
    66: ("its key is too short", "use RSA with 2048 bits, or an elliptic curve"),
    67: ("the key of its CA is too short", "use RSA with 2048 bits, or an elliptic curve"),
    68: ("it is signed with a digest that is not safe", "sign with SHA-256"),
}


class TlsFileError(IsocenterError):
    """A certificate, key or revocation list that cannot be used: which, why, and what to do."""

    error_code = ErrorCode.CERTIFICATE

    def __init__(self, path: Path | None, fault: str, cure: str) -> None:
        where = f"{path}: " if path is not None else ""
        super().__init__(f"{where}{fault}; {cure}")
        self.path = path
        self.fault = fault
        self.cure = cure


def describe_tls_error(error: BaseException) -> str:
    """One line that says what went wrong and what would help; no text of the peer is in it.

    Args:
        error: an `ssl.SSLError`, or an exception that one caused.
    """
    seen: BaseException | None = error
    for _ in range(_CAUSES):
        if seen is None or isinstance(seen, ssl.SSLError):
            break
        seen = seen.__cause__ or seen.__context__
    match seen:
        case ssl.SSLCertVerificationError():
            fault, cure = _VERIFY_CODES.get(
                seen.verify_code, (seen.verify_message.lower(), "use one that follows RFC 5280")
            )
            return f"the peer's certificate was refused: {fault}; {cure}"
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            fault, cure = _REASONS["UNEXPECTED_EOF_WHILE_READING"]
        case ssl.SSLError():
            reason = seen.reason or "UNKNOWN"
            words = reason.lower().replace("_", " ")
            fault, cure = _REASONS.get(reason, (f"TLS failed ({words})", "see the log of the peer"))
        case _:
            fault, cure = "the connection broke during TLS", "see the log of the peer"
    return f"{fault}; {cure}"
