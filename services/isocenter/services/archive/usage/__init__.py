"""Usage of the room of an archive, and what is made of its figures."""
