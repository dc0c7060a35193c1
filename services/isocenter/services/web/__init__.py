"""Web services of the archive, as applications of its HTTP server."""
