"""Sections of the settings.

Each field says what it may hold, what it is for and which option of ``isocenter serve``
sets it.  Loading, checking, ``--help`` and ``isocenter config show`` are made from that
(`isocenter.services.settings.loading`).

Each module holds the sections of one area; `isocenter.services.settings.settings` joins them, and
`isocenter.services.settings.field` says how a setting is written down.
"""
