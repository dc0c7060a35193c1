"""Corrections of objects that the archive has: attributes, patients, studies, series."""
