"""A client of the real API over real HTTP, as small as the tests need it."""

import io
import itertools
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, cast

import aiohttp

addresses = (f"127.1.{number // 250}.{number % 250 + 1}" for number in itertools.count())


def from_elsewhere() -> aiohttp.TCPConnector:
    """Return connections from an address that no other test uses: wrong credentials are counted by address."""
    return aiohttp.TCPConnector(local_addr=(next(addresses), 0))


class Client:
    """One tenant's view of the API; a context manager that holds the connections."""

    def __init__(self, url: str, apikey: str) -> None:
        self._url = f"{url}/v1"
        self._session = aiohttp.ClientSession(
            headers={"Authorization": aiohttp.encode_basic_auth("apikey", apikey)},
            timeout=aiohttp.ClientTimeout(total=100),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def submit(
        self, audio: Any, *, metadata: str | None = None, customer: str | None = None, **parameters: str | int
    ) -> str:
        """Create a job from a WAV file, whole or in pieces, and return its id."""
        status, body = await self.try_to_submit(audio, metadata=metadata, customer=customer, **parameters)
        assert status == 201, body
        return cast("str", body["id"])

    async def try_to_submit(
        self, audio: Any, *, metadata: str | None = None, customer: str | None = None, **parameters: str | int
    ) -> tuple[int, Any]:
        """Return the status code and the body; `metadata` is the header that labels with a customer."""
        data = io.BytesIO(audio) if isinstance(audio, bytes) else audio
        headers = {"Content-Type": "audio/wav", **_labelling(metadata, customer)}
        return await self._ask("POST", "/recognitions", params=parameters, data=data, headers=headers)

    async def look_up(self, job: str) -> tuple[int, Any]:
        """Return the status code and the body."""
        return await self._ask("GET", f"/recognitions/{job}")

    async def status(self, job: str) -> str | None:
        """Return the job's status; None when there is no such job, or no answer but a refusal for now."""
        code, body = await self.look_up(job)
        assert code in {200, 404, 503}, body
        return cast("str", body["status"]) if code == 200 else None

    async def ended(self, job: str) -> bool:
        """Tell whether the job is final."""
        return await self.status(job) in {"completed", "failed"}

    async def listed(self) -> list[str]:
        """Return the ids that the list shows."""
        code, body = await self._ask("GET", "/recognitions")
        assert code == 200, body
        return [job["id"] for job in body["recognitions"]]

    async def models(self) -> tuple[int, Any]:
        """Return the status code and the body."""
        return await self._ask("GET", "/models")

    async def delete(self, job: str) -> tuple[int, Any]:
        """Return the status code and the body, None for none."""
        return await self._ask("DELETE", f"/recognitions/{job}")

    async def register(
        self, url: str, secret: str | None = None, *, metadata: str | None = None, customer: str | None = None
    ) -> tuple[int, Any]:
        """Register a callback URL; return the status code and the body."""
        status, body, _ = await self.try_to_register(url, secret, metadata=metadata, customer=customer)
        return status, body

    async def try_to_register(
        self, url: str, secret: str | None = None, *, metadata: str | None = None, customer: str | None = None
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Return the status code, the body and the headers."""
        asked = {"callback_url": url} | ({"user_secret": secret} if secret is not None else {})
        headers = _labelling(metadata, customer)
        async with self._session.post(f"{self._url}/register_callback", params=asked, headers=headers) as response:
            return response.status, await response.json(), response.headers

    async def unregister(self, url: str) -> int:
        """Take a callback URL back: the status code."""
        return (await self._ask("POST", "/unregister_callback", params={"callback_url": url}))[0]

    async def erase(self, customer: str) -> tuple[int, Any]:
        """Erase a customer; return the status code and the body, None for none."""
        return await self._ask("DELETE", "/user_data", params={"customer_id": customer})

    async def _ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        async with self._session.request(method, self._url + path, **options) as response:
            return response.status, await response.json() if response.content_length else None


def _labelling(metadata: str | None, customer: str | None) -> dict[str, str]:
    if customer is not None:
        metadata = f"customer_id={customer}"
    return {} if metadata is None else {"X-Watson-Metadata": metadata}
