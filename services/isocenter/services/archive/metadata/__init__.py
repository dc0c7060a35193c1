"""Metadata of objects, made ready: DICOM JSON, and where frames lie."""
