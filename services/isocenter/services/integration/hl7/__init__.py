"""HL7 v2 orders over MLLP, for the modality worklist."""
