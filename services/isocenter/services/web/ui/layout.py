"""Pages as HTML: templates, what they are given, and the headers that guard them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context, select_autoescape
from jinja2.runtime import Context
from markupsafe import Markup

from isocenter.services.dicom.data_dictionary import name_for_tag
from isocenter.services.dicom.uid_registry import name_of
from isocenter.services.net.http.messages import Headers, HttpError, Request, Response
from isocenter.services.web.principal import Principal, what_may
from isocenter.services.web.ui import texts
from isocenter.services.web.ui.assets import Assets
from isocenter.services.web.ui.navigation import Section, menu_of
from isocenter.services.web.ui.page_tables import PARAMETER, table_response, with_links

#: Nothing comes from elsewhere, nothing in a page runs, and nobody puts it into a frame.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
_HEADERS: Final = (
    ("content-type", "text/html; charset=utf-8"),
    ("content-security-policy", _POLICY),
    ("cache-control", "private, no-store"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("x-frame-options", "DENY"),
)
#: What an error means to whoever looks at a page.
_TITLES: Final = {
    400: "That cannot be answered",
    401: "Who are you?",
    403: "This is not for you",
    404: "There is nothing here",
    410: "It is gone",
    429: "Not so fast",
    500: "Something went wrong",
    503: "Not now",
}


class Layout:
    """Makes pages of templates.

    Args:
        title: the name of the archive, over each page.
        sections: what the navigation leads to.
    """

    def __init__(self, assets: Assets, sections: Sequence[Section], *, title: str) -> None:
        self._environment = Environment(
            loader=PackageLoader(__package__),
            autoescape=select_autoescape(default=True, default_for_string=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._sections = sections
        self._environment.globals |= {
            "asset": assets.url,
            "archive": title,
            "places": frozenset(one.path for one in sections),
        }
        self._environment.filters |= {
            "person": texts.person_name,
            "date": texts.date_text,
            "time": texts.time_text,
            "values": texts.list_text,
            "size": texts.size_text,
            "moment": texts.moment_text,
            "second": texts.second_text,
            "written_moment": texts.written_moment_text,
            "attribute": name_for_tag,
            "sop_class": name_of,
            "segment": partial(quote, safe=""),
            "with_tables": _with_tables,
        }

    def page(
        self,
        request: Request,
        template: str,
        *,
        section: str,
        status: int = 200,
        headers: Headers = (),
        **values: Any,
    ) -> Response:
        """A page, for whoever made *request*.

        Args:
            section: what it is a part of; empty: of nothing that the navigation shows.

        Where the address names one of its tables, that as comma-separated values in its place.
        """
        caller = request.caller
        session = caller.session if isinstance(caller, Principal) else None
        values["may"] = what_may(caller)
        values["menu"] = menu_of(self._sections, values["may"], section)
        values["user"] = session.user if session is not None else ""
        # Who shows a certificate is known by it, and has nothing to sign out of.
        values["certificate"] = caller.certificate if isinstance(caller, Principal) else ""
        values["request"] = request
        text = self._environment.get_template(template).render(values)
        if status == 200 and (table := request.parameter(PARAMETER)):
            as_file = table_response(text, table)
            if as_file is not None:
                return as_file
        return Response(status=status, headers=(*_HEADERS, *headers), body=text.encode())

    def error(self, request: Request, error: HttpError) -> Response:
        """A page that says what is wrong."""
        return self.page(
            request,
            "error.html",
            status=error.status,
            headers=error.headers,
            section="",
            title=_TITLES.get(error.status, "That did not work"),
            message=error.message,
            code=error.code,
            name=request.name,
        )


@pass_context
def _with_tables(context: Context, content: str) -> Markup:
    """The content of a page, whose tables can be taken away."""
    return Markup(with_links(str(content), context["request"]))  # noqa: S704  (it is our page)
