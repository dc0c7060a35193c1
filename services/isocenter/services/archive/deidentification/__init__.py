"""De-identification of what leaves the archive, by projects."""
