"""Jobs: work between this archive and remote nodes that goes on by itself."""
