"""Bytes: TCP and TLS transports, listeners, connecting, addresses, who a peer is."""
