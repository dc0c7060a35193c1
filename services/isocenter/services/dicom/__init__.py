"""What data sets mean, without a network and without an archive."""
