"""What data sets mean, without network or archive: values, dictionary, UIDs, objects, files."""
