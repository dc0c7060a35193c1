"""Service classes of PS3.4, SCP and SCU side by side."""
