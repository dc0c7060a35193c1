"""New DICOM objects of what is none: pictures, documents, models and video."""
