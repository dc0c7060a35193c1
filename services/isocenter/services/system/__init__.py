"""The operating system: private files, locks, systemd, processes, log format."""
