"""Dissection of captures: associations read, followed by the engine, shown.

`pcap` and `isocenter.services.diagnostics.capture` read files; both yield what `captured` names.
`dissector` finds the associations in it and gives each an `observer`, in which two engines
play the two `sides`.
"""
