"""Commands that work on files, without a network and without an archive."""
