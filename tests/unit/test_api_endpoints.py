"""Which listener, which client: who decides, and who is believed."""

from typing import Any

import aiohttp
import pytest

from api.routes import SERVICE
from retention.listening import Listener
from tests.stack import wait_until
from tests.unit.fake_retention import KEY, TOKEN, WAV, Api, hang_up, serving

PUBLIC = Listener(name="public", port=0)
PRIVATE = Listener(name="private", kind="private", port=0)
HERE = "127.0.0.1"
FORM = "grant_type=urn%3Aibm%3Aparams%3Aoauth%3Agrant-type%3Aapikey&apikey=" + KEY
KEYED = [(path, method) for path, table in SERVICE.items() for method, each in table.items() if each.keyed]


def proxied(networks: str, **others: Any) -> tuple[Listener, ...]:
    """Return a listener that trusts these."""
    return (Listener(name="public", port=0, trusted_proxies=networks, **others),)


async def status(api: Api, name: int = 0, **options: Any) -> int:
    """Ask a listener for the list of jobs, and return the status."""
    return (await api.ask("GET", "/v1/recognitions", url=api.urls[name], **options)).status


@pytest.mark.parametrize(
    ("endpoints", "public", "private"), [("both", 200, 200), ("public", 200, 403), ("private", 403, 200)]
)
@pytest.mark.parametrize(
    "headers",
    [{}, {"X-Forwarded-For": "10.0.0.1", "Host": "private.example", "X-Endpoint": "private", "Forwarded": "for=x"}],
)
async def test_the_listener_decides(endpoints: Any, public: int, private: int, headers: dict[str, str]) -> None:
    """Whatever headers say."""
    async with serving(listeners=(PUBLIC, PRIVATE)) as api:
        api.tenants.serve(endpoints)
        assert (await status(api, 0, headers=headers), await status(api, 1, headers=headers)) == (public, private)


@pytest.mark.parametrize("prefix", ["", "/instances/x"])
@pytest.mark.parametrize(
    "credentials", [aiohttp.encode_basic_auth("apikey", KEY), f"Bearer {TOKEN}"], ids=["key", "token"]
)
@pytest.mark.parametrize(("path", "method"), KEYED)
@pytest.mark.parametrize("served", [("private",), ("both", "10.0.0.0/8")], ids=["kind", "network"])
async def test_every_operation_is_refused_where_the_tenant_is_not_served(
    prefix: str, credentials: str, path: str, method: str, served: Any
) -> None:
    """With a key and with a token, by the contract's error."""
    async with serving() as api:
        api.tenants.serve(*served)
        answer = await api.ask(
            method, prefix + path.format(id="x", model="x"), auth=None, headers={"Authorization": credentials}
        )
        assert answer.status == 403
        assert answer.body == {
            "code": 403,
            "code_description": "Forbidden",
            "error": "This instance may not be used through this endpoint, or not from this address.",
        }


@pytest.mark.parametrize(
    ("endpoints", "networks"), [("private", []), ("both", ["10.0.0.0/8"])], ids=["kind", "network"]
)
@pytest.mark.parametrize(("path", "body"), [("/identity/token", FORM), ("/v1/authorize", f'{{"api_key": "{KEY}"}}')])
async def test_no_token_is_sold_where_the_tenant_is_not_served(
    path: str, body: str, endpoints: Any, networks: list[str]
) -> None:
    """And it is sold where it is."""
    async with serving() as api:
        assert (await api.ask("POST", path, body, auth=None)).status == 200
        api.tenants.serve(endpoints, *networks)
        answer = await api.ask("POST", path, body, auth=None)
        assert (answer.status, answer.body["code"]) == (403, 403)


async def test_a_body_is_not_read_where_the_tenant_is_not_served() -> None:
    """A client that asks first is not invited to send."""
    async with serving() as api:
        api.tenants.serve("private")
        reader, writer = await api.connect()
        authorization = aiohttp.encode_basic_auth("apikey", KEY)
        writer.write(
            f"POST /v1/recognitions HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\nAuthorization: {authorization}"
            "\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        assert (await reader.readuntil(b"\r\n")) == b"HTTP/1.1 403 Forbidden\r\n"
        await hang_up(writer)
        assert api.jobs.accepted == []


async def test_a_tenant_that_is_no_more_served_at_the_end_of_an_upload_has_no_job() -> None:
    """As with a key that was revoked meanwhile."""
    async with serving() as api:

        async def under_way() -> bool:
            return api.jobs.under_way == 1

        async def audio() -> Any:
            yield WAV
            await wait_until(under_way)
            api.tenants.serve("private")
            yield WAV

        assert (await api.submit(data=audio())).status == 403
        assert api.jobs.accepted == []


@pytest.mark.parametrize(
    ("networks", "expected"),
    [
        ([], 200),
        ([HERE], 200),
        (["127.0.0.0/8"], 200),
        (["10.0.0.0/8", "127.0.0.0/30"], 200),
        (["10.0.0.0/8"], 403),
        (["::/0"], 403),
        (["127.0.0.2"], 403),
    ],
)
async def test_a_tenant_is_served_in_its_networks(networks: list[str], expected: int) -> None:
    """In one of them; without any everywhere."""
    async with serving() as api:
        api.tenants.serve("both", *networks)
        assert await status(api) == expected


PROXIES = f"{HERE} 10.0.0.0/8 fd00::/8"


@pytest.mark.parametrize(
    ("proxies", "hops", "client"),
    [
        ("", ["192.0.2.1"], HERE),
        ("10.0.0.0/8", ["192.0.2.1"], HERE),
        (PROXIES, [], HERE),
        (PROXIES, [""], HERE),
        (PROXIES, ["192.0.2.1"], "192.0.2.1"),
        (PROXIES, ["198.51.100.1, 192.0.2.1"], "192.0.2.1"),
        (PROXIES, ["198.51.100.1", "192.0.2.1"], "192.0.2.1"),
        (PROXIES, ["192.0.2.1, 10.0.0.1, fd00::1"], "192.0.2.1"),
        (PROXIES, ["10.0.0.2, 10.0.0.1"], "10.0.0.2"),
        (PROXIES, ["192.0.2.1:4711"], "192.0.2.1"),
        (PROXIES, ["[2001:db8::1]:4711"], "2001:db8::1"),
        (PROXIES, ["2001:db8::1, [fd00::1]"], "2001:db8::1"),
        (PROXIES, ["::ffff:192.0.2.1"], "192.0.2.1"),
        (PROXIES, ["nonsense, 192.0.2.1"], "192.0.2.1"),
        (PROXIES, ["192.0.2.1, nonsense"], None),
        (PROXIES, ["192.0.2.1, unknown, 10.0.0.1"], None),
    ],
)
async def test_the_client_is_the_nearest_hop_that_is_no_proxy(
    proxies: str, hops: list[str], client: str | None
) -> None:
    """Of what the listener's own proxies say, and nobody else."""
    lines = "".join(f"X-Forwarded-For: {each}\r\n" for each in hops)
    authorization = aiohttp.encode_basic_auth("apikey", KEY)
    request = f"GET /v1/recognitions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {authorization}\r\n"
    async with serving(listeners=proxied(proxies)) as api:
        for network, served in ((client or "0.0.0.0/0", client is not None), ("203.0.113.0/24", False), ("", True)):
            api.tenants.serve("both", *network.split())
            answer = await api.talk(f"{request}{lines}\r\n".encode())
            assert answer.startswith(b"HTTP/1.1 200 " if served else b"HTTP/1.1 403 ")


@pytest.mark.parametrize(
    ("proxies", "told", "scheme"),
    [
        ("", "https", "http"),
        ("10.0.0.0/8", "https", "http"),
        (HERE, "https", "https"),
        (HERE, "HTTPS", "https"),
        (HERE, "http, https", "https"),
        (HERE, "https, http", "http"),
        (HERE, "javascript", "http"),
        (HERE, "", "http"),
    ],
)
async def test_the_scheme_is_that_which_a_trusted_proxy_names(proxies: str, told: str, scheme: str) -> None:
    """In addresses that are given out; and browsers are told to stay with TLS only where there is any."""
    async with serving(listeners=proxied(proxies)) as api:
        answer = await api.submit(X_Forwarded_Proto=told, Host="stt.example")
        assert answer.body["url"].startswith(f"{scheme}://stt.example/v1/recognitions/")
        assert ("Strict-Transport-Security" in answer.headers) == (scheme == "https")


async def test_the_public_address_is_not_given_out_privately() -> None:
    """Who came by a private listener may not be able to use it."""
    async with serving(listeners=(PUBLIC, PRIVATE), public_url="https://stt.example") as api:
        for url, base in ((api.urls[0], "https://stt.example"), (api.urls[1], api.urls[1])):
            answer = await api.ask("POST", "/v1/recognitions", WAV, url=url)
            assert answer.body["url"].startswith(f"{base}/v1/")


async def test_wrong_credentials_are_counted_by_the_client_behind_a_trusted_proxy() -> None:
    """So that clients of one proxy do not slow each other; and nobody passes for another by a header."""
    for proxies, expected in ((HERE, 401), ("", 429)):
        async with serving(listeners=proxied(proxies)) as api:
            statuses = [
                await status(api, auth=("apikey", "wrong"), headers={"X-Forwarded-For": f"192.0.2.{number}"})
                for number in range(12)
            ]
            assert statuses[-1] == expected


async def test_wrong_credentials_are_401_wherever_they_come_from() -> None:
    """Where a tenant is served is told only to who has its key."""
    async with serving() as api:
        api.tenants.serve("private")
        assert await status(api, auth=("apikey", "wrong")) == 401
