"""Checks of `isocenter doctor`: this installation, and peers.

`installation` and `peer` are the two ways in.  Everything that was looked at is told as
one `CheckResult`, with its findings (`isocenter.services.diagnostics.findings`) as values.  Nothing
here prints, repairs or migrates anything.
"""
