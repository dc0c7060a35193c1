"""Objects that rules send on: a durable queue, and the driver that empties it."""
