"""Private CA of a site: issuing, records, expiry."""
