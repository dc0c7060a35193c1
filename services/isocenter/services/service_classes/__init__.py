"""DICOM service classes (PS3.4), a folder each, SCP and SCU side by side."""
