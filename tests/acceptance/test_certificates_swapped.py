"""Certificates are replaced under load without a failed request (and without a restart)."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import trustme
from cryptography import x509

from deploy.certificates import write
from deploy.stack import Stack
from tests.certificates import Authority
from tests.recognizers import QUICK, recording
from tests.stack import running_stack, wait_until

KEPT, NEW = 10, 6
"""Clients that keep their connections, and clients that make a new one for each request."""

SWAPS = (trustme.KeyType.RSA, trustme.KeyType.ECDSA, trustme.KeyType.ECDSA)


class Load:
    """Clients that ask without a pause; `statuses` counts the answers, and whatever is raised fails the test."""

    def __init__(self, stack: Stack, authority: Authority) -> None:
        self.statuses: Counter[int] = Counter()
        self._url = f"{stack.url}/v1/recognitions"
        self._headers = {"Authorization": aiohttp.encode_basic_auth("apikey", stack.apikey)}
        self._trust = authority.trust()

    async def ask(self, *, keep: bool) -> None:
        """Ask until cancelled, over one connection or over a new one each time."""
        connector = aiohttp.TCPConnector(ssl=self._trust, limit=1, force_close=not keep)
        async with aiohttp.ClientSession(connector=connector, headers=self._headers) as session:
            while True:
                async with session.get(self._url) as response:
                    await response.read()
                    self.statuses[response.status] += 1
                await asyncio.sleep(0.01)

    async def upload(self, ended: asyncio.Event) -> int:
        """Upload something that takes until `ended`; return the status."""

        async def audio() -> AsyncIterator[bytes]:
            recorded = recording(0)
            yield recorded[:1000]
            while not ended.is_set():
                await asyncio.sleep(0.2)
                yield b""
            yield recorded[1000:]

        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._trust), headers=self._headers) as session,
            session.post(self._url, data=audio(), headers={"Content-Type": "audio/wav"}) as response,
        ):
            return response.status


async def shown(stack: Stack, authority: Authority) -> int:
    """Return the serial number of the certificate that a new connection is shown."""
    address = urlsplit(stack.url)
    _, writer = await asyncio.open_connection(address.hostname, address.port, ssl=authority.trust())
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return x509.load_der_x509_certificate(certificate).serial_number


async def test_certificates_are_swapped_under_load_without_a_failed_request(tmp_path: Path) -> None:
    """All answers are 200, new connections get the new one, and one that will not do changes nothing."""
    authority = Authority(tmp_path)
    with running_stack(QUICK | authority.settings(), workers=0, ca=authority.file) as stack:
        load, ended = Load(stack, authority), asyncio.Event()
        upload = asyncio.create_task(load.upload(ended))
        clients = [asyncio.create_task(load.ask(keep=number < KEPT)) for number in range(KEPT + NEW)]

        async def asked_more() -> bool:
            assert not any(client.done() for client in clients), [client for client in clients if client.done()]
            return load.statuses.total() > before + 100

        before = expected = 0
        await wait_until(asked_more)
        for kind in SWAPS:
            authority.pair(key_type=kind)
            expected = x509.load_pem_x509_certificate((tmp_path / "server.pem").read_bytes()).serial_number

            async def swapped(serial: int = expected) -> bool:
                return await shown(stack, authority) == serial

            await wait_until(swapped)
            before = load.statuses.total()
            await wait_until(asked_more)

        write(tmp_path / "server.key", authority.pair("other")["certificate_key"].read_bytes())

        async def refused() -> bool:
            return "certificate refused, the one before stays" in stack.logs("api")

        await wait_until(refused)
        assert await shown(stack, authority) == expected
        before = load.statuses.total()
        await wait_until(asked_more)

        ended.set()
        assert await upload == 201
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
    assert load.statuses.keys() == {200}
    assert load.statuses.total() > 400
