"""Commands that look after an archive and what it keeps."""
