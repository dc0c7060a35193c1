"""Modality worklist (PS3.4 Annex K): what is scheduled, and for which station."""
