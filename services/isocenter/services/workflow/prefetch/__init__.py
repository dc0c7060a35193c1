"""Prefetch: earlier studies of patients who are scheduled, from remote nodes."""
