"""DICOM service classes (PS3.4), one folder each, with its SCP and SCU side by side."""
