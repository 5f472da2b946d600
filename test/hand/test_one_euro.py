"""One-euro filter: laws."""

import numpy as np
import pytest

from hoi_ros.hand.one_euro import NoFilter, OneEuroFilter

DT = 1 / 30


def test_a_constant_passes():
    signal = np.random.default_rng(0).normal(size=(21, 2))
    smooth = OneEuroFilter(1.0, 5.0)
    for _ in range(20):
        np.testing.assert_allclose(smooth.update(signal, DT), signal, atol=1e-12)


def test_off_is_the_identity():
    smooth = NoFilter()
    for seed in range(5):
        value = np.random.default_rng(seed).normal(size=(21, 3))
        np.testing.assert_array_equal(smooth.update(value, DT), value)


def test_a_step_is_approached_from_one_side_and_reached():
    smooth = OneEuroFilter(1.0, 0.0)
    smooth.update(np.zeros((1, 1)), DT)
    answers = [smooth.update(np.ones((1, 1)), DT).item() for _ in range(90)]
    assert np.all(np.diff(answers) > 0) and answers[0] < 0.3 and 0.99 < answers[-1] <= 1
    # First-order: 63 % after 1 / (2 pi cutoff).
    assert answers[round(30 / (2 * np.pi))] == pytest.approx(0.63, abs=0.1)


def test_noise_at_rest_shrinks():
    rng = np.random.default_rng(1)
    smooth = OneEuroFilter(1.0, 0.05)
    noise = rng.normal(size=(300, 21, 2))
    filtered = np.array([smooth.update(sample, DT) for sample in noise])[50:]
    assert filtered.std() < 0.5 * noise.std()


def test_speed_lessens_lag():
    def lag(beta):
        smooth = OneEuroFilter(1.0, beta)
        return 100 - [smooth.update(np.array([[float(x)]]), DT).item() for x in range(101)][-1]

    assert lag(0.5) < 0.5 * lag(0.0)


def test_scale_of_the_signal_does_not_matter():
    samples = np.random.default_rng(2).normal(size=(20, 4, 2))
    small, large = OneEuroFilter(1.0, 3.0), OneEuroFilter(1.0, 3.0)
    for sample in samples:
        a, b = small.update(sample, DT, 1.0), large.update(1000 * sample, DT, 1000.0)
        np.testing.assert_allclose(1000 * a, b, rtol=1e-9)


@pytest.mark.parametrize("dt_s", [0.0, -1.0])
def test_time_that_stands_or_runs_back_starts_anew(dt_s):
    smooth = OneEuroFilter(0.5, 0.0)
    smooth.update(np.zeros((2, 2)), DT)
    np.testing.assert_array_equal(smooth.update(np.ones((2, 2)), dt_s), np.ones((2, 2)))


def test_reset_forgets():
    smooth = OneEuroFilter(0.5, 0.0)
    smooth.update(np.zeros((2, 2)), DT)
    smooth.reset()
    np.testing.assert_array_equal(smooth.update(np.ones((2, 2)), DT), np.ones((2, 2)))
