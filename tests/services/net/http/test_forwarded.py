"""Addresses of clients behind proxies: nothing that a client writes is believed."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.services.net.http.forwarded import (
    FORWARDED,
    NO_PROXIES,
    TrustedProxies,
    is_passed_on,
)

PROXY = "10.0.0.1"
PROXIES = ("10.0.0.0/24", "fd00::/8")


def client_of(said: str | None, peer: str = PROXY, header: str = "x-forwarded-for") -> str:
    proxies = TrustedProxies(networks=PROXIES, header=header)
    headers = {} if said is None else {header: said}
    return proxies.client(peer, headers.get)


@pytest.mark.parametrize(
    ("said", "client"),
    [
        (None, PROXY),
        ("", PROXY),
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.7:4711", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("2001:DB8:0::7", "2001:db8::7"),
        # The client invents what stands before; the proxies add at the end.
        ("127.0.0.1, 192.0.2.7", "192.0.2.7"),
        ("127.0.0.1,192.0.2.7,10.0.0.2", "192.0.2.7"),
        ("192.0.2.7, fd00::1", "192.0.2.7"),
        # All are proxies: the first of them asks by itself.
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        # A proxy that does not know: no better than it.
        ("192.0.2.7, unknown", PROXY),
        ("192.0.2.7, _hidden, 10.0.0.2", "10.0.0.2"),
        ("192.0.2.7,", PROXY),
        ("192.0.2.7, ,10.0.0.2", "10.0.0.2"),
        ("999.1.1.1", PROXY),
        ("192.0.2.7 or so", PROXY),
        ("192.0.2.7\x00", PROXY),
        (", ".join(["10.0.0.2"] * 5_000), "10.0.0.2"),
    ],
)
def test_x_forwarded_for(said: str | None, client: str) -> None:
    assert client_of(said) == client


@pytest.mark.parametrize(
    ("said", "client"),
    [
        ("for=192.0.2.7", "192.0.2.7"),
        ("For=192.0.2.7;proto=http;by=10.0.0.1", "192.0.2.7"),
        ('proto=https; for="192.0.2.7:4711"', "192.0.2.7"),
        ('for="[2001:db8::7]:4711"', "2001:db8::7"),
        ('for="\\[2001:db8::7\\]"', "2001:db8::7"),
        ("for=127.0.0.1, for=192.0.2.7", "192.0.2.7"),
        ("for=127.0.0.1, for=192.0.2.7, for=10.0.0.2;proto=https", "192.0.2.7"),
        ('host="a,for=1.1.1.1";for=192.0.2.7', "192.0.2.7"),
        ('for=127.0.0.1;host="x, for=192.0.2.9', PROXY),
        ("for=unknown", PROXY),
        ("for=_secret", PROXY),
        ("proto=https", PROXY),
        ("for=192.0.2.7, proto=https", PROXY),
        ("for", PROXY),
        ("for=;", PROXY),
        ("=", PROXY),
        ('for="', PROXY),
        ("", PROXY),
    ],
)
def test_forwarded(said: str, client: str) -> None:
    assert client_of(said, header=FORWARDED) == client


def test_only_the_header_that_proxies_write_counts() -> None:
    both = {"x-forwarded-for": "192.0.2.7", "forwarded": "for=127.0.0.1"}
    assert TrustedProxies(networks=PROXIES).client(PROXY, both.get) == "192.0.2.7"


addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)


@given(peer=addresses, said=st.text(max_size=200))
def test_who_is_no_proxy_is_who_it_is(peer: str, said: str) -> None:
    for header in ("x-forwarded-for", FORWARDED):
        proxies = TrustedProxies(networks=PROXIES, header=header)
        if not proxies.trusts(peer):
            assert proxies.client(peer, {header: said}.get) == peer
    assert NO_PROXIES.client(peer, {"x-forwarded-for": said}.get) == peer


@given(invented=st.text(max_size=200), client=addresses, hops=st.integers(0, 4))
def test_what_a_client_writes_never_counts(invented: str, client: str, hops: int) -> None:
    proxies = TrustedProxies(networks=PROXIES)
    if proxies.trusts(client):
        return
    said = ", ".join([invented, client, *(f"10.0.0.{2 + n}" for n in range(hops))])
    assert client_of(said) == client
    if '"' not in invented and "\\" not in invented:
        said = f"for={invented}, " + ", ".join(
            [f'for="[{client}]"', *(f"for=10.0.0.{2 + n}" for n in range(hops))]
        )
        assert client_of(said, header=FORWARDED) in {client, PROXY, f"10.0.0.{1 + hops}"}


@given(st.text(max_size=300))
def test_an_address_comes_out_whatever_goes_in(said: str) -> None:
    for header in ("x-forwarded-for", FORWARDED):
        ipaddress.ip_address(client_of(said, header=header))


@pytest.mark.parametrize(
    "name",
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via"],
)
def test_whoever_passes_something_on_shows_it(name: str) -> None:
    assert is_passed_on(["x-other", name])
    assert not is_passed_on(["x-other"])
