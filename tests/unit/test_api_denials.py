"""When the front has the audit log tell of denied access, and in whose name a request is served."""

from retention.acting import acting
from retention.errors import AuditBroken, Unavailable
from tests.unit.fake_retention import KEY, Api, serving

WRONG = ("apikey", f"volant_0123456789ab_{'s' * 43}")
SOURCE = "127.0.0.0/24"


async def list_jobs(api: Api, auth: tuple[str, str] | None = WRONG) -> int:
    return (await api.ask("GET", "/v1/recognitions", auth=auth)).status


async def test_a_wrong_credential_is_told_wherever_it_is_presented() -> None:
    """As a key, as a token, as nothing that we know, and where tokens are bought; the public id if there is one."""
    async with serving() as api:
        await list_jobs(api)
        for authorization in ("Bearer whispered", "Digest whispered", "Basic ???"):
            await api.ask("GET", "/v1/recognitions", auth=None, headers={"Authorization": authorization})
        form = f"grant_type=urn%3Aibm%3Aparams%3Aoauth%3Agrant-type%3Aapikey&apikey={WRONG[1]}"
        await api.ask("POST", "/identity/token", form, auth=None)
        await api.ask("POST", "/v1/authorize", b'{"api_key": "whispered"}', auth=None)
        assert api.audit.denied == [
            ("credential", SOURCE, "0123456789ab", 1),
            *[("credential", SOURCE, "", 1)] * 3,
            ("credential", SOURCE, "0123456789ab", 1),
            ("credential", SOURCE, "", 1),
        ]


async def test_a_source_that_is_refused_is_told_once_and_then_counted() -> None:
    """Ten plainly, one that says that it begins; the rest when there is something to tell again."""
    async with serving() as api:
        assert [await list_jobs(api) for _ in range(30)] == [401] * 10 + [429] * 20
        assert [why for why, *_ in api.audit.denied] == ["credential"] * 10 + ["backoff"]


async def test_good_and_missing_credentials_and_unknown_jobs_are_not_told() -> None:
    """Some clients present theirs only when asked; a foreign job is an unknown one."""
    async with serving() as api:
        assert await list_jobs(api, None) == 401
        assert await list_jobs(api, ("apikey", KEY)) == 200
        assert (await api.ask("GET", "/v1/recognitions/4bd734c0-e575-41f3-8e03-f932aa0468a0")).status == 404
        assert api.audit.denied == []


async def test_a_denial_that_cannot_be_recorded_is_503() -> None:
    """No answer without its record."""
    async with serving() as api:
        for trouble in (Unavailable("away"), AuditBroken("record 1 …")):
            api.audit.trouble = trouble
            assert await list_jobs(api) == 503


async def test_a_request_does_not_inherit_who_acted_before_on_its_connection() -> None:
    """Each begins with nobody, and with its own transaction."""
    async with serving() as api:
        seen = []
        write = api.audit.write

        async def watched(*args: str, **options: str | int) -> None:
            seen.append(acting())
            await write(*args, **options)  # type: ignore[arg-type]

        api.audit.write = watched  # type: ignore[method-assign]
        assert await list_jobs(api, ("apikey", KEY)) == 200
        answers = [await api.ask("GET", "/v1/recognitions", auth=WRONG) for _ in range(2)]
        assert [by.actor for by in seen] == ["", ""]
        assert [by.transaction for by in seen] == [answer.headers["X-Global-Transaction-ID"] for answer in answers]
