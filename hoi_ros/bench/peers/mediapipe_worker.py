"""Runs the `mediapipe` package in an environment of its own; started by `mediapipe_hands`, imports nothing of hoi_ros.

Standard input: for each picture height, width and mode (0 film, 1 single photo, 2 start anew: no pixels follow) as
three little-endian 32-bit numbers, then RGB bytes. Standard output: a line of JSON each, with hands and milliseconds.
"""

import json
import os
import struct
import sys
import time

import mediapipe
import numpy as np

FILM, PHOTO, RESET = 0, 1, 2


def main() -> None:
    """Answer pictures until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the library writes to standard output as it likes
    source = sys.stdin.buffer
    hands: dict = {}
    answers.write(json.dumps({"version": mediapipe.__version__}) + "\n")
    answers.flush()
    while len(header := source.read(12)) == 12:
        height, width, mode = struct.unpack("<III", header)
        if mode == RESET:
            hands = {}
            continue
        picture = np.frombuffer(source.read(height * width * 3), np.uint8).reshape(height, width, 3)
        if mode not in hands:
            hands[mode] = mediapipe.solutions.hands.Hands(
                static_image_mode=mode == PHOTO, max_num_hands=2, model_complexity=1
            )
        start = time.perf_counter()
        result = hands[mode].process(picture)
        answer = {"ms": (time.perf_counter() - start) * 1e3, "hands": found_hands(result, width, height)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def found_hands(result, width: int, height: int) -> list:
    """Pixels, metres about the hand's middle, side and score of every hand."""
    if not result.multi_hand_landmarks:
        return []
    hands = []
    for image, world, kind in zip(
        result.multi_hand_landmarks, result.multi_hand_world_landmarks, result.multi_handedness
    ):
        label = kind.classification[0]
        hands.append(
            {
                "joints_px": [[p.x * width - 0.5, p.y * height - 0.5] for p in image.landmark],
                "joints_m": [[p.x, p.y, p.z] for p in world.landmark],
                # The package takes pictures for mirrored ones, as a front camera shows them.
                "side": {"Left": "right", "Right": "left"}[label.label],
                "score": label.score,
            }
        )
    return hands


if __name__ == "__main__":
    main()
