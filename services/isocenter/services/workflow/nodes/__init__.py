"""Remote nodes: archives and stations that this one asks and sends to."""
