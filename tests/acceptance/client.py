"""A client of the real API over real HTTP, as small as the tests need it."""

import io
from types import TracebackType
from typing import Any, Self, cast

import aiohttp


class Client:
    """One tenant's view of the API; a context manager that holds the connections."""

    def __init__(self, url: str, apikey: str) -> None:
        self._url = f"{url}/v1/recognitions"
        self._session = aiohttp.ClientSession(
            headers={"Authorization": aiohttp.encode_basic_auth("apikey", apikey)},
            timeout=aiohttp.ClientTimeout(total=30),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def submit(self, audio: Any, **parameters: str | int) -> str:
        """Create a job from a WAV file, whole or in pieces, and return its id."""
        status, body = await self.try_to_submit(audio, **parameters)
        assert status == 201, body
        return cast("str", body["id"])

    async def try_to_submit(self, audio: Any, **parameters: str | int) -> tuple[int, Any]:
        """Return the status code and the body."""
        data = io.BytesIO(audio) if isinstance(audio, bytes) else audio
        return await self._ask("POST", "", params=parameters, data=data, headers={"Content-Type": "audio/wav"})

    async def look_up(self, job: str) -> tuple[int, Any]:
        """Return the status code and the body."""
        return await self._ask("GET", f"/{job}")

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
        code, body = await self._ask("GET", "")
        assert code == 200, body
        return [job["id"] for job in body["recognitions"]]

    async def delete(self, job: str) -> tuple[int, Any]:
        """Return the status code and the body, None for none."""
        return await self._ask("DELETE", f"/{job}")

    async def _ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        async with self._session.request(method, self._url + path, **options) as response:
            return response.status, await response.json() if response.content_length else None
