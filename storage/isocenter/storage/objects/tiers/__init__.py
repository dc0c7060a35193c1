"""Several stores as one: adapters of `ObjectStore` and `TrashFiles`."""
