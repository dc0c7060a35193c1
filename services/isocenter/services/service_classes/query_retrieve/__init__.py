"""Query/retrieve service class (PS3.4 Annex C): C-FIND, C-MOVE and C-GET, and their identifiers."""
