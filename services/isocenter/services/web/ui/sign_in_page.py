"""Page to sign in, and its form."""

from __future__ import annotations

from urllib.parse import quote

from isocenter.services.net.http.messages import Request, Response
from isocenter.services.web.openid_sign_in import BEGIN, OpenIdSignIn
from isocenter.services.web.principal import Principal
from isocenter.services.web.sign_in import (
    NotSignedInError,
    SignIn,
    SignInForm,
    own_path,
    read_form,
)
from isocenter.services.web.ui.layout import Layout


class SignInPage:
    """Answers whoever signs in or out."""

    def __init__(self, sign_in: SignIn, layout: Layout, openid: OpenIdSignIn | None = None) -> None:
        self._openid = openid
        self._sign_in = sign_in
        self._layout = layout

    async def show(self, request: Request) -> Response:
        """The handler of the form."""
        self._sign_in.check_secure(request)
        return self._page(request, SignInForm(goes_to=own_path(request.parameter("next") or "/")))

    async def begin(self, request: Request) -> Response:
        """The handler of what is written into it."""
        form = await read_form(request)
        try:
            cookie = await self._sign_in.begin(request, form)
        except NotSignedInError as error:
            return self._page(request, form, str(error))
        return Response(status=303, headers=[("location", form.goes_to), *cookie])

    async def end(self, request: Request) -> Response:
        """The handler of the button to sign out; who was signed in at a provider is led there."""
        principal = request.caller
        session = principal.session if isinstance(principal, Principal) else None
        cookie = await self._sign_in.end(request)
        if session is not None and self._openid is not None:
            address = await self._openid.logout(request, session)
            if address:
                request.caller = None
                return self._layout.page(
                    request,
                    "signed_out.html",
                    headers=cookie,
                    section="",
                    address=address,
                    label=self._openid.label,
                )
        return Response(status=303, headers=[("location", "/sign-in"), *cookie])

    def _page(self, request: Request, form: SignInForm, fault: str = "") -> Response:
        return self._layout.page(
            request,
            "sign_in.html",
            status=403 if fault else 200,
            section="",
            form=form,
            fault=fault,
            nobody=not self._sign_in.is_possible and self._openid is None,
            has_passcodes=self._sign_in.is_possible or self._openid is None,
            openid=self._openid,
            openid_path=f"{BEGIN}?next={quote(form.goes_to, safe='')}",
        )
