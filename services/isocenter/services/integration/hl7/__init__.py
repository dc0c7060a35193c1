"""Orders from a hospital's systems: HL7 v2 messages over MLLP that feed the modality worklist."""
