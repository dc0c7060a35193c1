"""Audit trail (PS3.15 A.5 to A.7).

`message_builder` and `alert_messages` make messages of notices, `messages` is a message as a value
and as XML, `trail` keeps them in files that show when they were changed, `trail_verification`
looks, and `syslog_delivery` sends them to repositories.  `recorder` joins all that to a server: its
table of handlers says which notice becomes which message.
"""
