"""PostgreSQL driver of the database layer; needs the extra ``postgres``."""
