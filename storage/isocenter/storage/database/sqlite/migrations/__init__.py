"""Steps of the schema, each written out and never changed again."""
