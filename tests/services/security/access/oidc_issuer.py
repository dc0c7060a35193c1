"""An OpenID Connect provider that somebody else wrote, over TLS: run as a program of its own.

Its arguments are certificate and key; it prints its port.
"""

from __future__ import annotations

import logging
import ssl
import sys
import warnings
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer


class Silent(WSGIRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


def main(certificate: str, key: str) -> None:
    warnings.simplefilter("ignore")  # its own affair
    import oidc_provider_mock

    logging.disable(logging.CRITICAL)
    server = WSGIServer(("127.0.0.1", 0), Silent)
    server.base_environ["wsgi.url_scheme"] = "https"
    server.base_environ["HTTPS"] = "on"
    server.set_app(oidc_provider_mock.app())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
