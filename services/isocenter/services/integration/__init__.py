"""Systems that do not speak DIMSE."""
