"""Rules for arriving objects: conditions and decisions."""
