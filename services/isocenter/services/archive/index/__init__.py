"""What an index keeps of an object, what it can be asked, and what that means."""
