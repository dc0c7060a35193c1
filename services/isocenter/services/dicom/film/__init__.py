"""Films: their layout, composition of their picture, and files of them (PS3.3 C.13)."""
