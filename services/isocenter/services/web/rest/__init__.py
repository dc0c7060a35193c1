"""Administration API below `/api/v1`: what pages do, for programs.

How a subject gets its part of the API, in a module of its own:

1. The bodies of its requests and answers are classes, `bodies.Body`; the schemas of OpenAPI are
   made of them, and what does not fit them is answered before a handler sees it.
2. A class takes what it needs as ports, and has one method for each operation: a request in, a
   response out.  ``read_body(request, Kind)`` reads, ``answer(value)`` answers, `ProblemError`
   says what is wrong.  Lists are answered in pages (`paging`), and what can be edited has an
   entity tag (`entity_tags`).
3. Its method ``routes`` yields an `endpoints.endpoint` for each: path, permission, types, texts.
4. The subject is one line in the table of `service.rest_routes`, and its ports are fields of
   `isocenter.services.web.parts.WebParts`, which the pages use as well.

What changes something is an operation of the wing that knows the subject: pages and API call the
same function, and it tells a notice, of which an audit message is made.  Who may do what stands in
`endpoint(needs=…)`, a name of `isocenter.services.web.principal.NEEDS`; a test asks each route as
each role, by session, token and certificate.
"""
