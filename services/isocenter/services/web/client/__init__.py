"""DICOMweb client: search, retrieve, store and delete at another server (PS3.18 10)."""
