"""Instance availability notification (PS3.4 Annex R): a peer is told what it can retrieve."""
