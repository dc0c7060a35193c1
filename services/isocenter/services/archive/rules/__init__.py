"""Rules: what happens to an object because of what it says and who sent it."""
