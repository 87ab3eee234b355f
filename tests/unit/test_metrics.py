"""Measures of samples of which it is known what they are."""

from array import array

import pytest

from retention.results import Bin
from worker.media import RATE
from worker.metrics import Meter


def rate_of_clipping(interval: list[int]) -> list[Bin]:
    """Return the fullest bars of a second in which every tenth is this interval."""
    meter = Meter()
    pcm = array("h", interval * 10).tobytes()
    assert b"".join(meter.through([pcm])) == pcm
    return [bin_ for bin_ in meter.accumulated().clipping_rate if bin_.count]


@pytest.mark.parametrize("peak", [32767, -32768])
def test_samples_at_either_end_of_the_scale_are_clipped(peak: int) -> None:
    """Half of each interval is, the other half is one step less."""
    less = peak - 1 if peak > 0 else peak + 1
    assert rate_of_clipping([peak, less] * (RATE // 20)) == [Bin(0.5, 0.6, 10)]
    assert rate_of_clipping([less, less] * (RATE // 20)) == [Bin(0.0, 0.1, 10)]
