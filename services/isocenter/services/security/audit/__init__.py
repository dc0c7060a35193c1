"""Audit trail (PS3.15 A.5 to A.7).

`events` makes messages of notices, `messages` writes them as XML, `trail` keeps them in files
that show when they were changed, `verifying` looks, and `delivery` sends them to syslog
collectors.  `auditor` joins all that to a server.
"""
