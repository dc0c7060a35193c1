"""FHIR read service: ImagingStudy and Patient for search by health records (R4, R5)."""
