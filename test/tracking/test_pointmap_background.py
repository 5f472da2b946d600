"""What a still camera knows of the room, and what it takes for something that came in."""

from __future__ import annotations

import numpy as np

from hoi_ros.tracking.pointmap_background import StillRoom

HEIGHT, WIDTH = 96, 128
BOX = (0, 0, WIDTH, HEIGHT)
THING = np.s_[30:60, 40:70]
FREE = np.zeros((HEIGHT, WIDTH), bool)


def room(seed: int = 0) -> np.ndarray:
    """A wall with large patches of colour (H, W, 3)."""
    patches = np.random.default_rng(seed).integers(40, 220, (HEIGHT // 16, WIDTH // 16, 3))
    return patches.repeat(16, 0).repeat(16, 1).astype(np.uint8)


def with_thing(picture: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    out = picture.copy()
    out[THING] = color
    return out


def learnt() -> tuple[StillRoom, np.ndarray]:
    still, wall = StillRoom(), room()
    for _ in range(6):
        still.learn(wall, FREE)
    return still, wall


def compared(still: StillRoom, picture: np.ndarray, box=BOX, size=(WIDTH, HEIGHT)):
    """What of a picture is the room's, without learning from it."""
    still.learn(picture, ~FREE)
    return still.compare(box, size)


def test_what_came_in_is_told_from_the_room():
    still, wall = learnt()
    picture = with_thing(wall, (250, 20, 250))
    back, front, _ = compared(still, picture)
    truth = np.zeros((HEIGHT, WIDTH), bool)
    truth[THING] = True
    assert (front & truth).sum() > 0.95 * truth.sum() and (front & ~truth).sum() < 0.02 * truth.sum()
    assert (back & ~truth).sum() > 0.95 * (~truth).sum() and not (back & truth).any()


def test_a_part_is_compared_in_its_own_size():
    still, wall = learnt()
    _, front, _ = compared(still, with_thing(wall, (250, 20, 250)), (40, 30, 70, 60), (15, 15))
    assert front.shape == (15, 15) and front.mean() > 0.9


def test_nothing_is_known_before_anything_was_seen():
    back, front, calm = compared(StillRoom(), room(), BOX, (64, 48))
    assert not back.any() and not front.any() and not calm.any()


def test_what_hands_cover_is_not_learnt():
    still, wall = StillRoom(), room()
    busy = FREE.copy()
    busy[THING] = True
    for _ in range(8):
        still.learn(with_thing(wall, (10, 200, 10)), busy)
    back, front, _ = compared(still, wall)
    inner = np.s_[34:56, 44:66]
    assert not back[inner].any() and not front[inner].any()


def test_a_shadow_is_neither():
    still, wall = learnt()
    shaded = wall.copy()
    shaded[THING] = (shaded[THING] * 0.7).astype(np.uint8)
    back, front, _ = compared(still, shaded)
    assert front[THING].mean() < 0.1 and back[THING].mean() < 0.3


def test_a_camera_that_moves_forgets_the_room():
    still, wall = learnt()
    other = room(7)
    still.learn(other, FREE)
    back, front, _ = still.compare(BOX, (WIDTH, HEIGHT))
    assert not back.any() and not front.any()


def test_a_thing_left_lying_becomes_room_and_its_place_is_calm():
    still, wall = learnt()
    picture = with_thing(wall, (250, 20, 250))
    for _ in range(8):
        still.learn(picture, FREE)
    back, _, calm = compared(still, picture)
    assert back[THING].mean() > 0.9 and calm.mean() > 0.95


def test_a_wall_that_sways_by_a_few_pixels_is_nothing_new():
    still, wall = learnt()
    _, front, _ = compared(still, np.roll(wall, (3, -5), (0, 1)))
    assert front[8:-8, 8:-8].mean() < 0.02
    _, front, _ = compared(still, np.roll(with_thing(wall, (250, 20, 250)), (3, -5), (0, 1)))
    assert front[35:60, 37:63].mean() > 0.9
