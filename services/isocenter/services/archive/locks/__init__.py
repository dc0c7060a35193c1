"""Study locks: who reads a study, and who changes it."""
