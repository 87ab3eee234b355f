"""Whether a client has opted out of the request log (spec 6.3)."""

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from api.learning import opted_out
from tests.unit.fake_retention import serving


@pytest.mark.parametrize(
    ("headers", "out"),
    [
        ([], False),
        ([("X-Watson-Learning-Opt-Out", "true")], True),
        ([("x-watson-learning-opt-out", "1")], True),
        ([("X-Watson-Learning-Opt-Out", "")], True),
        ([("X-Watson-Learning-Opt-Out", "no")], True),
        ([("X-Watson-Learning-Opt-Out", "00")], True),
        ([("X-Watson-Learning-Opt-Out", "false, true")], True),
        ([("X-Watson-Learning-Opt-Out", "false")], False),
        ([("X-Watson-Learning-Opt-Out", " FALSE ")], False),
        ([("X-Watson-Learning-Opt-Out", "0")], False),
        ([("X-Watson-Learning-Opt-Out", "false"), ("X-Watson-Learning-Opt-Out", "true")], True),
        ([("X-WDC-PL-OPT-OUT", "1")], True),
        ([("X-WDC-PL-OPT-OUT", "0")], False),
        ([("X-Watson-Learning-Opt-Out", "false"), ("X-WDC-PL-OPT-OUT", "1")], True),
        ([("X-Watson-Learning", "true"), ("X-Watson-Metadata", "customer_id=opt-out")], False),
    ],
)
def test_any_value_but_an_explicit_no_opts_out(headers: list[tuple[str, str]], *, out: bool) -> None:
    """Both names, any of several values; only `false` and `0` say that it may be kept."""
    assert opted_out(make_mocked_request("POST", "/", headers=CIMultiDict(headers))) is out


async def test_the_decision_is_kept_with_the_job() -> None:
    """Made when the job is accepted, either way."""
    async with serving() as api:
        assert (await api.submit()).status == 201
        assert (await api.submit(X_Watson_Learning_Opt_Out="true")).status == 201
        assert [taken.submission.learning_opt_out for taken in api.jobs.accepted] == [False, True]
