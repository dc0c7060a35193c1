"""Access by policy: entities, certificates, users, roles, rejected callers.

Without any application entity in the table everything is as the settings say
(`isocenter.services.association.access`).  With one, an AE title that is not in it is rejected.
"""
