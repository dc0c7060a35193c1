"""For how long studies are kept, and what carries the rules out."""
