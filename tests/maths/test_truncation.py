"""The law of widths and the k that would decide."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brf_exp.maths.truncation import OpenRival, WidthLaw, deciding_k, width_law


def test_a_power_law_is_found_and_continued() -> None:
    law = width_law([12, 25, 50], [0.3 * (k / 50) ** -0.8 for k in (12, 25, 50)])
    assert (law.k, law.width) == (50, 0.3)
    assert law.slope == pytest.approx(0.8) and law.bend == pytest.approx(0, abs=1e-12)
    assert law.at(200) == pytest.approx(0.3 * 4**-0.8)
    assert law.needed(0.03) == pytest.approx(50 * 10 ** (1 / 0.8))


def test_a_bend_downwards_is_kept_and_one_upwards_is_not() -> None:
    ks = (8, 16, 32)
    falling = [np.exp(-0.5 * np.log(k / 32) - 0.1 * np.log(k / 32) ** 2) for k in ks]
    law = width_law(ks, falling)
    assert (law.slope, law.bend) == (pytest.approx(0.5), pytest.approx(0.1))
    flattening = [np.exp(-0.5 * np.log(k / 32) + 0.1 * np.log(k / 32) ** 2) for k in ks]
    assert width_law(ks, flattening).bend == 0


@given(
    width=st.floats(1e-6, 2),
    slope=st.floats(0.05, 3),
    bend=st.floats(0, 1) | st.just(1e-12),
    share=st.floats(0.05, 0.99),
)
def test_the_width_at_the_needed_k_is_the_one_asked_for(width: float, slope: float, bend: float, share: float) -> None:
    law = WidthLaw(50, width, slope, bend)
    k = law.needed(share * width)
    if k is None:
        assert law.at(50 * 2.0**16) > share * width
    else:
        assert law.at(k) == pytest.approx(share * width, rel=1e-9) and k > 50


def test_widths_that_do_not_fall_lead_nowhere() -> None:
    for law in (width_law([12, 25, 50], [0.1, 0.1, 0.1]), width_law([4, 8], [0.1, 0.2]), width_law([50], [0.1])):
        assert law.needed(0.01) is None and law.needed(0.3) == law.k
    closed = width_law([12, 25, 50], [0.1, 0.01, 0.0])
    assert closed.needed(0.01) == 50


@pytest.mark.parametrize("widths", [[0.1, -0.1], [0.1, np.nan], [0.1, np.inf]])
def test_impossible_widths_are_refused(widths: list[float]) -> None:
    with pytest.raises(ValueError, match="`ks` must rise"):
        width_law([4, 8], widths)
    with pytest.raises(ValueError, match="`ks` must rise"):
        width_law([8, 4], [0.1, 0.2])


def _rival(upper: float, lower: float, width: float = 0.04, margin: float = 0.005) -> OpenRival:
    return OpenRival("r", upper, lower, margin, WidthLaw(50, width, 1.0, 0.0))


def test_the_k_that_would_decide() -> None:
    # Upper ends of -.010 and -.008 leave half widths of .005 and .003: widths must fall from .04 to .01 and .006.
    supported = [_rival(-0.010, -0.03), _rival(-0.008, -0.03)]
    assert deciding_k(supported) == (int(np.ceil(50 * 0.04 / 0.006)), "supported")
    # One rival whose lower end would be above -.005 by .0025 is enough.
    falsified = [_rival(0.01, -0.0025), _rival(0.01, -0.02)]
    assert deciding_k(falsified) == (int(np.ceil(50 * 0.04 / 0.005)), "falsified")
    assert deciding_k([_rival(0.0, -0.02)]) is None
    assert deciding_k([_rival(-0.010, -0.03), _rival(0.0, -0.03)]) is None
    assert deciding_k([]) is None


def test_no_k_beyond_the_vocabulary_is_asked_for() -> None:
    flat = OpenRival("r", -0.010, -0.03, 0.005, WidthLaw(50, 0.04, 0.0, 0.0))
    assert deciding_k([flat]) is None
    assert deciding_k([flat], most=512) == (512, "supported")
    assert deciding_k([_rival(-0.0051, -0.03)], most=512) == (512, "supported")
