# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from dvmvs_core.data.poses import transforms
from dvmvs_core.data.poses.quaternion import multiply, normalised, pose_matrix, quaternion_of, rotate, slerp
from dvmvs_core.data.poses.transforms import MAX_CHAIN, MAX_FRAMES, TransformTree
from dvmvs_core.errors import (
    TransformConnectivityError,
    TransformError,
    TransformExtrapolationError,
    TransformLookupError,
)

SECOND = 10**9
UNTURNED = (0.0, 0.0, 0.0, 1.0)
QUARTER_TURN = (0.0, 0.0, np.sin(np.pi / 4), np.cos(np.pi / 4))
"""90° about z: x becomes y."""


def along_x(*samples: tuple[float, float], cache_s: float | None = None) -> TransformTree:
    """Base at each of (seconds, x), unturned."""
    tree = TransformTree(cache_s)
    for seconds, x in samples:
        tree.set_transform("odom", "base", round(seconds * SECOND), (x, 0, 0), UNTURNED)
    return tree


def moving_base() -> TransformTree:
    """Base drives from x = 0 to 2 between 1 s and 3 s while it turns by 90°; a camera is fixed 0.5 m above it."""
    tree = TransformTree()
    tree.set_transform("odom", "base", 1 * SECOND, (0, 0, 0), UNTURNED)
    tree.set_transform("odom", "base", 3 * SECOND, (2, 0, 0), QUARTER_TURN)
    tree.set_transform("base", "camera", 0, (0, 0, 0.5), UNTURNED, static=True)
    return tree


def test_half_way_in_time_is_half_way_in_space_and_angle():
    odom_T_camera = moving_base().lookup("odom", "camera", 2 * SECOND)
    expected = np.eye(4)
    expected[:3, :3] = Rotation.from_euler("z", 45, degrees=True).as_matrix()
    expected[:3, 3] = (1.0, 0.0, 0.5)
    assert np.allclose(odom_T_camera, expected, atol=1e-15)


def test_the_result_maps_points_of_the_second_frame_to_the_first():
    point_base = np.array((1.0, 0.0, 0.0, 1.0))
    assert moving_base().lookup("odom", "base", 3 * SECOND) @ point_base == pytest.approx((2.0, 1.0, 0.0, 1.0))


def test_siblings_meet_in_their_parent_whatever_lies_above_it():
    tree = moving_base()
    tree.set_transform("base", "lidar", 0, (1, 0, 0), UNTURNED, static=True)
    # Nothing is known of odom → base at 9 s, and nothing of it is needed.
    assert tree.lookup("lidar", "camera", 9 * SECOND)[:3, 3] == pytest.approx((-1.0, 0.0, 0.5))


def test_a_frame_in_itself_is_the_identity_at_any_time():
    assert np.array_equal(moving_base().lookup("base", "base", 77 * SECOND), np.eye(4))


@pytest.mark.parametrize("stamp_ns", (1 * SECOND, 3 * SECOND))
def test_the_ends_of_the_times_received_are_inside(stamp_ns):
    assert np.isfinite(moving_base().lookup("odom", "base", stamp_ns)).all()


@pytest.mark.parametrize(
    ("stamp_ns", "side"), ((SECOND - 1, "before the oldest"), (3 * SECOND + 1, "after the newest"))
)
def test_one_nanosecond_outside_is_extrapolation(stamp_ns, side):
    with pytest.raises(TransformExtrapolationError, match=f"0.000000001 s {side}") as caught:
        moving_base().lookup("odom", "camera", stamp_ns)
    error = caught.value
    assert (error.stamp_ns, error.oldest_ns, error.newest_ns) == (stamp_ns, 1 * SECOND, 3 * SECOND)
    assert error.may_come == (stamp_ns > 3 * SECOND)
    for named in ("'odom'", "'camera'", "'base'", "1.000000000 s", "3.000000000 s"):
        assert named in str(error)


def test_one_transform_holds_at_its_own_stamp_only():
    tree = along_x((5, 1.5))
    assert tree.lookup("odom", "base", 5 * SECOND)[0, 3] == pytest.approx(1.5)
    with pytest.raises(TransformExtrapolationError):
        tree.lookup("odom", "base", 5 * SECOND + 1)


def test_nanoseconds_of_todays_clock_are_not_rounded():
    start = 1_760_000_000_123_456_789
    tree = TransformTree()
    tree.set_transform("odom", "base", start, (0, 0, 0), UNTURNED)
    tree.set_transform("odom", "base", start + 1000, (1000, 0, 0), UNTURNED)
    assert tree.lookup("odom", "base", start + 1)[0, 3] == pytest.approx(1.0, abs=1e-9)


def test_of_two_transforms_at_one_stamp_the_later_message_holds():
    tree = moving_base()
    tree.set_transform("odom", "base", 3 * SECOND, (5, 0, 0), UNTURNED)
    assert tree.lookup("odom", "base", 3 * SECOND)[0, 3] == 5
    # Between the stamps, the way still leads to the first that came: as tf2, which keeps both.
    assert tree.lookup("odom", "base", 2 * SECOND)[0, 3] == pytest.approx(1)


def test_a_repeated_transform_changes_nothing():
    tree = moving_base()
    for _ in range(3):
        assert tree.set_transform("odom", "base", 1 * SECOND, (0, 0, 0), UNTURNED)
    assert tree.lookup("odom", "base", 2 * SECOND)[0, 3] == pytest.approx(1)


def test_leading_slashes_are_dropped_everywhere():
    tree = TransformTree()
    tree.set_transform("/odom", "/base", 1, (1, 0, 0), UNTURNED)
    assert tree.frames() == ["base", "odom"]
    assert tree.lookup("/odom", "base", 1)[0, 3] == 1
    assert tree.root("/base") == "odom"


def test_the_cache_reaches_back_as_far_as_it_says_from_the_transform_before():
    tree = along_x(*((second, second) for second in range(15)), cache_s=10.0)
    assert tree.lookup("odom", "base", 3 * SECOND)[0, 3] == 3
    with pytest.raises(TransformExtrapolationError, match="known from 3.000000000 s to 14.000000000 s"):
        tree.lookup("odom", "base", 3 * SECOND - 1)


def test_a_publisher_slower_than_the_cache_is_interpolated_between_its_last_two():
    tree = along_x((0, 0), (16, 16), (32, 32), cache_s=10.0)
    assert tree.lookup("odom", "base", 20 * SECOND)[0, 3] == pytest.approx(20)
    with pytest.raises(TransformExtrapolationError):
        tree.lookup("odom", "base", 15 * SECOND)


def test_a_transform_older_than_the_cache_is_ignored_and_says_so():
    tree = along_x((20, 1), cache_s=10.0)
    assert not tree.set_transform("odom", "base", 10 * SECOND - 1, (2, 0, 0), UNTURNED)
    assert tree.set_transform("odom", "base", 10 * SECOND, (2, 0, 0), UNTURNED)


def test_without_a_bound_everything_is_kept():
    assert along_x((1, 1), (10**6, 2)).lookup("odom", "base", SECOND)[0, 3] == 1


def test_a_changed_parent_holds_from_its_stamp_on():
    tree = TransformTree()
    tree.set_transform("map", "odom", 0, (100, 0, 0), UNTURNED, static=True)
    tree.set_transform("odom", "box", 1 * SECOND, (1, 0, 0), UNTURNED)
    tree.set_transform("map", "box", 3 * SECOND, (7, 0, 0), UNTURNED)
    # Between two parents nothing is interpolated: the older holds.
    assert tree.lookup("map", "box", 2 * SECOND)[0, 3] == pytest.approx(101)
    assert tree.lookup("map", "box", 3 * SECOND)[0, 3] == pytest.approx(7)


def test_an_edge_may_change_from_moving_to_static_and_back():
    tree = TransformTree()
    tree.set_transform("a", "b", 5, (1, 0, 0), UNTURNED)
    tree.set_transform("a", "b", 5, (2, 0, 0), UNTURNED, static=True)
    assert tree.lookup("a", "b", 10**12)[0, 3] == 2
    tree.set_transform("a", "b", 6, (3, 0, 0), UNTURNED)
    with pytest.raises(TransformExtrapolationError):
        tree.lookup("a", "b", 5)


def test_clear_forgets_what_moves_and_keeps_what_is_static():
    tree = moving_base()
    tree.clear()
    assert tree.lookup("base", "camera", 123)[2, 3] == 0.5
    with pytest.raises(TransformExtrapolationError, match="nothing was received yet") as caught:
        tree.lookup("odom", "camera", 2 * SECOND)
    assert caught.value.newest_ns is None


def test_an_unknown_frame_is_named_with_those_that_are_known():
    with pytest.raises(TransformLookupError, match="'world' is not known; known frames: base, camera, odom"):
        moving_base().lookup("world", "camera", 2 * SECOND)
    with pytest.raises(TransformLookupError, match="no transform was received at all"):
        TransformTree().lookup("world", "camera", 2 * SECOND)


def test_two_trees_are_told_apart_from_missing_times():
    tree = moving_base()
    tree.set_transform("earth", "map", 2 * SECOND, (0, 0, 0), UNTURNED)
    for stamp_ns in (2 * SECOND, 9 * SECOND):
        with pytest.raises(TransformConnectivityError, match="'camera' hangs below 'odom', 'map' below 'earth'"):
            tree.lookup("map", "camera", stamp_ns)


def test_a_loop_is_named_and_does_not_hang():
    tree = TransformTree()
    for parent, child in (("a", "b"), ("b", "c"), ("c", "a")):
        tree.set_transform(parent, child, 0, (0, 0, 0), UNTURNED, static=True)
    tree.set_transform("z", "y", 0, (0, 0, 0), UNTURNED, static=True)
    with pytest.raises(TransformError, match="loop: a → c → b → a"):
        tree.lookup("y", "a", 0)
    assert tree.root("a") in "abc"


@pytest.mark.parametrize(
    ("parent", "child", "translation", "quaternion", "said"),
    (
        ("odom", "", (0, 0, 0), UNTURNED, "must name both"),
        ("/", "base", (0, 0, 0), UNTURNED, "must name both"),
        ("base", "/base", (0, 0, 0), UNTURNED, "two frames"),
        ("odom", "base", (0, 0, 0), (0, 0, 0, np.nan), "finite"),
        ("odom", "base", (np.inf, 0, 0), UNTURNED, "finite"),
        ("odom", "base", (0, 1e300, 0), UNTURNED, "at most 1e\\+08 m long"),
        # As by tf2.
        ("odom", "base", (0, 0, 0), (0, 0, 0, 0), "must have length 1"),
        ("odom", "base", (0, 0, 0), (1e200, 0, 0, 1e200), "must have length 1"),
        ("odom", "base", (0, 0, 0), (1e300, 1e300, 1e300, 1e300), "must have length 1"),
        ("odom", "base", (0, 0, 0), (0, 0, 0, 0.5), "must have length 1"),
        ("odom", "base", (0, 0, 0), (0, 0, 0, 2.0), "must have length 1"),
        ("odom", "base", (0, 0, 0), (0, 0, 0.5, 0.5), "must have length 1"),
        ("odom", "base", (0, 0, 0), (0, 0, 0, 1e-200), "must have length 1"),
    ),
)
def test_a_transform_that_cannot_be_is_refused_and_leaves_no_trace(parent, child, translation, quaternion, said):
    tree = TransformTree()
    with pytest.raises(TransformError, match=said):
        tree.set_transform(parent, child, 0, translation, quaternion)
    assert tree.frames() == []


@pytest.mark.parametrize("length", (0.996, 1.0, 1.004))
def test_a_quaternion_of_nearly_length_1_is_normalised(length):
    tree = TransformTree()
    tree.set_transform("odom", "base", 0, (0, 0, 0), [length * value for value in QUARTER_TURN])
    assert np.allclose(tree.lookup("odom", "base", 0) @ (1, 0, 0, 1), (0, 1, 0, 1), atol=1e-15)


def test_a_matrix_can_be_set_and_looked_up():
    odom_T_base = np.eye(4)
    odom_T_base[:3, :3] = Rotation.from_euler("xyz", (0.3, -0.2, 2.9)).as_matrix()
    odom_T_base[:3, 3] = (1, 2, 3)
    tree = TransformTree()
    tree.set_pose("odom", "base", 4, odom_T_base)
    assert np.allclose(tree.lookup("odom", "base", 4), odom_T_base, atol=1e-15)
    with pytest.raises(TransformError, match="finite"):
        tree.set_pose("odom", "base", 5, np.full((4, 4), np.nan))


class PlainTree:
    """The same answers by matrices and scipy, slowly: the root's pose of each frame, then one product."""

    def __init__(self) -> None:
        self.edges: dict[str, tuple[str, list]] = {}

    def root_T_frame(self, frame: str, stamp_ns: int) -> np.ndarray:
        if frame not in self.edges:
            return np.eye(4)
        parent, samples = self.edges[frame]
        stamps = [stamp for stamp, _, _ in samples]
        parent_T_frame = np.eye(4)
        parent_T_frame[:3, :3] = Slerp(stamps, Rotation.from_quat([q for _, _, q in samples]))(stamp_ns).as_matrix()
        for axis in range(3):
            parent_T_frame[axis, 3] = np.interp(stamp_ns, stamps, [t[axis] for _, t, _ in samples])
        return self.root_T_frame(parent, stamp_ns) @ parent_T_frame


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_random_trees_agree_with_a_plain_implementation(seed):
    generator = np.random.default_rng(seed)
    tree, plain = TransformTree(), PlainTree()
    frames = [f"frame{i}" for i in range(6)]
    for i, child in enumerate(frames[1:], start=1):
        parent = frames[generator.integers(i)]
        samples = []
        for stamp_ns in (0, *sorted(generator.choice(np.arange(1, 999), 4, replace=False)), 1000):
            rotation = Rotation.random(random_state=int(generator.integers(2**31))).as_quat()
            samples.append((int(stamp_ns), generator.normal(size=3), rotation))
        plain.edges[child] = (parent, samples)
        for k in generator.permutation(len(samples)):
            stamp_ns, translation, rotation = samples[k]
            tree.set_transform(parent, child, stamp_ns, translation, rotation * generator.choice((-1.0, 1.0)))
    for _ in range(5):
        a, b, c = generator.choice(frames, 3)
        stamp_ns = int(generator.integers(0, 1001))
        a_T_b = tree.lookup(a, b, stamp_ns)
        expected = np.linalg.inv(plain.root_T_frame(a, stamp_ns)) @ plain.root_T_frame(b, stamp_ns)
        assert np.allclose(a_T_b, expected, atol=1e-9)
        assert np.allclose(a_T_b @ tree.lookup(b, c, stamp_ns), tree.lookup(a, c, stamp_ns), atol=1e-12)
        assert np.allclose(a_T_b[:3, :3] @ a_T_b[:3, :3].T, np.eye(3), atol=1e-14)


def test_threads_may_set_and_look_up_at_once():
    tree = TransformTree(cache_s=0.001)
    tree.set_transform("odom", "base", 0, (0, 0, 0), UNTURNED)
    wrong = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                x, y = tree.lookup("odom", "base", 10**6)[:2, 3]
                if x != y:
                    wrong.append((x, y))
            except TransformExtrapolationError:
                pass
            except Exception as error:
                wrong.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for stamp_ns in range(0, 3 * 10**6, 1000):
        tree.set_transform("odom", "base", stamp_ns, (stamp_ns, stamp_ns, 0), UNTURNED)
    done.set()
    for reader in readers:
        reader.join()
    assert not wrong


def test_the_newest_time_of_a_chain_is_that_of_its_slowest_edge():
    tree = TransformTree()
    tree.set_pose("odom", "base", 10, np.eye(4))
    tree.set_pose("odom", "base", 30, np.eye(4))
    tree.set_pose("base", "arm", 20, np.eye(4))
    tree.set_pose("arm", "camera", 0, np.eye(4), static=True)
    assert tree.newest_ns("odom", "camera") == 20 and tree.newest_ns("odom", "base") == 30
    assert tree.newest_ns("arm", "camera") is None, "static: at every time"
    assert tree.newest_ns("map", "camera") is None and tree.newest_ns("map", "odom") is None
    tree.clear()
    assert tree.newest_ns("odom", "camera") is None


def test_a_chain_has_a_limit_as_in_tf2():
    tree = TransformTree()
    for i in range(MAX_CHAIN + 10):
        tree.set_transform(f"frame{i}", f"frame{i + 1}", 0, (1, 0, 0), (0, 0, 0, 1), static=True)
    ends = tree.lookup("frame0", f"frame{MAX_CHAIN - 1}", 5)
    assert ends[0, 3] == MAX_CHAIN - 1
    with pytest.raises(TransformError, match=f"at most {MAX_CHAIN} frames"):
        tree.lookup("frame0", f"frame{MAX_CHAIN + 5}", 5)


def test_the_cost_of_a_lookup_grows_with_the_chain_and_not_with_its_square():
    def operations(frames: int) -> int:
        """Function calls and comparisons of names that a lookup over a chain takes."""
        counted = [0]

        class Name(str):
            __slots__ = ()
            __hash__ = str.__hash__

            def __eq__(self, other):
                counted[0] += 1
                return str.__eq__(self, other)

        tree = TransformTree()
        for i in range(frames):
            tree.set_transform(Name(f"frame{i}"), Name(f"frame{i + 1}"), 0, (1, 0, 0), (0, 0, 0, 1), static=True)
        counted[0] = 0
        tree.lookup(Name("frame0"), Name(f"frame{frames}"), 5)
        return counted[0]

    assert operations(800) < 5 * operations(200) + 100


def test_names_that_never_end_do_not_fill_the_memory_nor_keep_others_out():
    tree = TransformTree(10.0)
    for i in range(2 * MAX_FRAMES):
        tree.set_transform(f"a{i}", f"b{i}", 0, (0, 0, 0), (0, 0, 0, 1))
        if i % 100 == 0:
            tree.set_transform("odom", "base", i, (i, 0, 0), (0, 0, 0, 1))
    assert len(tree.frames()) <= MAX_FRAMES + 2
    assert tree.lookup("odom", "base", 150)[0, 3] == 150, "what is heard of again and again is kept, with its past"
    tree = TransformTree(10.0)
    for i in range(MAX_FRAMES // 2):
        tree.set_transform(f"a{i}", f"b{i}", 0, (0, 0, 0), (0, 0, 0, 1), static=True)
    with pytest.raises(TransformError, match="one too many"):
        tree.set_transform("a", "b", 0, (0, 0, 0), (0, 0, 0, 1), static=True)
    with pytest.raises(TransformError, match="at most 1000 characters") as raised:
        TransformTree().set_transform("x" * 10**6, "b", 0, (0, 0, 0), (0, 0, 0, 1))
    assert len(str(raised.value)) < 300


def test_what_is_later_than_a_time_can_be_forgotten():
    tree = along_x((1, 1), (3600, 9), cache_s=10.0)
    assert not tree.set_transform("odom", "base", 2 * SECOND, (2, 0, 0), UNTURNED), "it is too old for the one ahead"
    tree.forget_after(1800 * SECOND)
    assert tree.set_transform("odom", "base", 2 * SECOND, (2, 0, 0), UNTURNED)
    assert tree.lookup("odom", "base", 2 * SECOND)[0, 3] == 2


def test_an_edge_that_is_flooded_keeps_its_newest(monkeypatch):
    monkeypatch.setattr(transforms, "MAX_SAMPLES", 100)
    tree = TransformTree(10.0)
    for i in range(1000):
        tree.set_transform("odom", "base", i, (i, 0, 0), (0, 0, 0, 1))
        assert len(tree._edges["base"].stamps) <= 100
    assert tree.lookup("odom", "base", 999)[0, 3] == 999


unit = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: sum(v * v for v in q) > 1e-3).map(normalised)
vector = st.tuples(*[st.floats(-100, 100)] * 3)


@given(unit, vector)
def test_rotation_and_matrix_agree_with_scipy(q, v):
    rotation = Rotation.from_quat(q)
    assert np.allclose(pose_matrix(v, q)[:3, :3], rotation.as_matrix(), atol=1e-14)
    assert np.allclose(pose_matrix(v, q)[:3, 3], v)
    assert np.allclose(rotate(q, v), rotation.apply(v), atol=1e-12)


@given(unit, unit)
def test_a_product_rotates_by_the_right_factor_first(a, b):
    expected = (Rotation.from_quat(a) * Rotation.from_quat(b)).as_matrix()
    assert np.allclose(pose_matrix((0, 0, 0), multiply(a, b))[:3, :3], expected, atol=1e-14)


@given(unit)
def test_a_matrix_gives_its_quaternion_back_with_positive_w(q):
    found = quaternion_of(pose_matrix((0, 0, 0), q)[:3, :3])
    sign = 1.0 if sum(a * b for a, b in zip(found, q, strict=True)) >= 0 else -1.0
    assert found == pytest.approx([sign * v for v in q], abs=1e-14)
    assert found[3] >= 0


@pytest.mark.parametrize("axis", range(3))
def test_half_turns_have_no_preferred_sign_but_are_found(axis):
    R = -np.eye(3)
    R[axis, axis] = 1.0
    assert np.abs(quaternion_of(R)) == pytest.approx(np.eye(4)[axis], abs=1e-15)


@given(unit, unit, st.floats(0, 1))
def test_slerp_agrees_with_scipy(a, b, ratio):
    if abs(sum(x * y for x, y in zip(a, b, strict=True))) < 1e-6:
        return  # half a turn apart: both ways round are shortest
    expected = Slerp((0, 1), Rotation.from_quat((a, b)))(ratio).as_matrix()
    assert np.allclose(pose_matrix((0, 0, 0), slerp(a, b, ratio))[:3, :3], expected, atol=1e-9)


def test_slerp_moves_through_an_angle_too_small_for_an_arc_cosine():
    angle = 1e-8
    end = (0.0, 0.0, np.sin(angle / 2), np.cos(angle / 2))
    assert slerp((0, 0, 0, 1), end, 0.25)[2] == pytest.approx(angle / 8, rel=1e-6)
