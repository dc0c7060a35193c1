"""Access, certificates, and the audit trail."""
