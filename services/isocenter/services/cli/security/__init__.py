"""Commands for access, certificates and the audit trail."""
