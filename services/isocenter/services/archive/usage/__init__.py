"""Usage of the room of an archive: who counts it, and what is made of the figures."""
