"""Commands that run a server, or ask a running one."""
