"""Bad input is refused with file and field."""

import numpy as np
import pytest

from hoi_ros.errors import InputError
from hoi_ros.evaluation import checks

HANDS = np.zeros((2, 21, 3))
HANDS[:, 9, 0] = 0.09


def test_units():
    np.testing.assert_allclose(checks.metres_of(np.array([25.0]), "cm", file="a.npz", field="joints"), 0.25)
    with pytest.raises(InputError, match=r"a\.npz, field 'joints': unknown unit 'mmm': did you mean 'mm'"):
        checks.metres_of(HANDS, "mmm", file="a.npz", field="joints")
    checks.require_metres(HANDS, file="a.npz", field="joints")
    checks.require_metres(np.full((2, 21, 3), np.nan), file="a.npz", field="joints")
    for factor, unit in ((1000, "mm"), (100, "cm")):
        with pytest.raises(InputError, match=rf"a\.npz, field 'joints'.*--units {unit}"):
            checks.require_metres(HANDS * factor, file="a.npz", field="joints")
    with pytest.raises(InputError, match="unit is unknown"):
        checks.require_metres(HANDS * 1e6, file="a.npz", field="joints")


def test_lengths_and_emptiness():
    checks.require_same_length({"frame": 3, "joints": 3}, file="a.npz")
    with pytest.raises(InputError, match=r"a\.npz: fields differ in length \('frame' 3, 'joints' 2\)"):
        checks.require_same_length({"frame": 3, "joints": 2}, file="a.npz")
    with pytest.raises(InputError, match=r"a\.npz, field 'frame' is empty"):
        checks.require_rows(0, file="a.npz", field="frame")
