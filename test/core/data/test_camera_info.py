from __future__ import annotations

import numpy as np
import pytest

from dvmvs_core.data.camera_info import camera_model
from dvmvs_core.errors import MessageError

RAW = (500.0, 0, 320, 0, 501.0, 240, 0, 0, 1)
RECTIFIED = (480.0, 0, 310, 0, 0, 481.0, 235, 0, 0, 0, 1, 0)


def test_the_rectified_camera_is_in_p():
    camera = camera_model(480, 640, RAW, RECTIFIED, (0.1, 0, 0, 0, 0))
    assert camera.K.tolist() == [[480, 0, 310], [0, 481, 235], [0, 0, 1]]
    assert (camera.height, camera.width, camera.distorted) == (480, 640, True)


def test_a_driver_that_leaves_p_empty_means_k():
    camera = camera_model(480, 640, np.array(RAW), np.zeros(12), ())
    assert camera.K.tolist() == [[500, 0, 320], [0, 501, 240], [0, 0, 1]]
    assert not camera.distorted


@pytest.mark.parametrize(
    ("arguments", "said"),
    (
        ((0, 640, RAW, RECTIFIED, ()), "height 0"),
        ((480, 640, np.zeros(9), np.zeros(12), ()), "positive focal lengths"),
        ((480, 640, (-1.0, *RAW[1:]), np.zeros(12), ()), "positive focal lengths"),
        ((480, 640, (np.nan, *RAW[1:]), np.zeros(12), ()), "finite"),
    ),
)
def test_an_uncalibrated_camera_is_refused(arguments, said):
    with pytest.raises(MessageError, match=said):
        camera_model(*arguments)
