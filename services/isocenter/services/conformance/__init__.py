"""The DICOM conformance statement (PS3.2) of a configuration, made from what the server runs on."""
