"""Command that asks a DICOMweb service for something."""
