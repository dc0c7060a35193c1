"""Sharing of studies beyond the archive: manifests, and where they are published (XDS-I.b, MHD)."""
