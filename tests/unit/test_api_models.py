"""Models, as the front shows them."""

import pytest

from retention.offer import Offer
from tests.unit.fake_retention import WAV, serving


async def test_models_are_shown_below_the_clients_own_base_url() -> None:
    """Also below an instance; the id may be percent-encoded."""
    async with serving() as api:
        listed = await api.ask("GET", "/instances/a%2Fb/v1/models")
        assert listed.status == 200
        shown = {model["name"]: model for model in listed.body["models"]}
        assert shown["en-US"]["url"] == f"{api.url}/instances/a%2Fb/v1/models/en-US"
        assert shown["en-US_BroadbandModel"]["supported_features"] == {
            "custom_language_model": False,
            "custom_acoustic_model": False,
            "speaker_labels": False,
        }
        assert shown["en-US_Multimedia"]["supported_features"]["low_latency"] is False
        assert "pocketsphinx" in shown["en-US"]["description"]
        one = await api.ask("GET", "/v1/models/en%2DUS%5FTelephony")
        assert (one.status, one.body["name"], one.body["rate"]) == (200, "en-US_Telephony", 8000)


@pytest.mark.parametrize("prefix", ["", "/instances/a%2Fb"])
@pytest.mark.parametrize("path", ["/v1/models/en-US", "/v1/model%73/en-US", "/%76%31/models/en%2DUS"])
async def test_the_address_of_a_model_is_plain_however_the_client_wrote_it(prefix: str, path: str) -> None:
    """Any letter of a path may be percent-encoded (RFC 3986 §6.2.2.2); the prefix stays the client's."""
    async with serving() as api:
        shown = await api.ask("GET", prefix + path)
        assert (shown.status, shown.body["url"]) == (200, f"{api.url}{prefix}/v1/models/en-US")
        listed = await api.ask("GET", prefix + path.rpartition("/")[0])
        assert listed.body["models"][0]["url"].startswith(f"{api.url}{prefix}/v1/models/en-US")


async def test_an_unknown_model_is_404_and_a_stranger_sees_none() -> None:
    """In the words of the contract."""
    async with serving() as api:
        answer = await api.ask("GET", "/v1/models/fr-FR%2Fx")
        assert (answer.status, answer.body["error"]) == (404, "Model fr-FR/x not found")
        for path in ("/v1/models", "/v1/models/en-US"):
            assert (await api.ask("GET", path, auth=None)).status == 401


async def test_before_the_first_worker_nothing_can_be_promised() -> None:
    """A job might be for a language that nobody will serve: it is refused, and the client may try again."""
    async with serving() as api:
        api.offers.offer = None
        for method, path in (("GET", "/v1/models"), ("GET", "/v1/models/en-US"), ("POST", "/v1/recognitions")):
            answer = await api.ask(method, path, WAV if method == "POST" else None)
            assert answer.status == 503
            assert answer.headers["Retry-After"]
        assert api.jobs.accepted == []


async def test_what_is_served_follows_the_engine() -> None:
    """Another engine, other models, other parameters: no list of the front's own."""
    async with serving() as api:
        api.offers.offer = Offer(engine="y", languages=("de-DE",), features=frozenset())
        assert (await api.submit()).status == 404
        answer = await api.submit("?model=de-DE_Telephony&timestamps=true")
        assert (answer.status, answer.body["warnings"]) == (201, ["Unsupported arguments: timestamps."])
