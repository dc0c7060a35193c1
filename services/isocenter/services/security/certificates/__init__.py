"""The private CA of a site: what it issues, what it remembers, and until when that is valid."""
