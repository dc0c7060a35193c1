"""Objects in S3 or Azure: adapter of the port `ObjectStore`."""
