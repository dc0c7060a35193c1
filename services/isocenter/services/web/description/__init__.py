"""Descriptions of the web services, made from their routes: WADL, OpenAPI, a page."""
