"""Printed surfaces drawn by program: labels, boxes, glaze. Every picture is asymmetric, so colour shows each turn."""

from __future__ import annotations

import cv2
import numpy as np

Color = tuple[int, int, int]

INK: Color = (28, 26, 32)
PAPER: Color = (244, 240, 230)


def fractal_noise(rng: np.random.Generator, height: int, width: int, *, base: int = 4, octaves: int = 5) -> np.ndarray:
    """Smooth noise (height, width) float32 of about zero mean and unit deviation, coarse to fine."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        cells = base * 2**octave
        grid = rng.standard_normal((max(2, cells * height // max(height, width)), cells)).astype(np.float32)
        total += 0.6**octave * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return total / (total.std() + 1e-6)


def plain(height: int, width: int, color: Color, seed: int, grain: float = 4.0) -> np.ndarray:
    """One colour with faint mottling (height, width, 3) uint8."""
    noise = fractal_noise(np.random.default_rng(seed), height, width)[..., None] * grain
    return np.clip(np.array(color, np.float32) + noise, 0, 255).astype(np.uint8)


def text(image: np.ndarray, words: str, center: tuple[float, float], width: float, color: Color, bold: int = 2) -> None:
    """Write `words` in place, `width` pixels wide, centred at `center` (x, y)."""
    font = cv2.FONT_HERSHEY_DUPLEX
    (unit, _), _ = cv2.getTextSize(words, font, 1.0, bold)
    scale = width / max(unit, 1)
    (_, tall), _ = cv2.getTextSize(words, font, scale, bold)
    origin = (int(center[0] - width / 2), int(center[1] + tall / 2))
    cv2.putText(image, words, origin, font, scale, color, bold, cv2.LINE_AA)


def fine_print(image: np.ndarray, x: int, y: int, width: int, height: int, color: Color, seed: int) -> None:
    """Fill a rectangle with lines of tiny words."""
    rng = np.random.default_rng(seed)
    for line in range(y, y + height, 9):
        start = x
        while start < x + width - 6:
            length = int(rng.integers(5, 26))
            cv2.line(image, (start, line), (min(start + length, x + width), line), color, 2, cv2.LINE_AA)
            start += length + 7


def barcode(image: np.ndarray, x: int, y: int, width: int, height: int, seed: int) -> None:
    """Draw a barcode on white."""
    rng = np.random.default_rng(seed)
    cv2.rectangle(image, (x, y), (x + width, y + height), (250, 250, 248), -1)
    at = x + 5
    while at < x + width - 6:
        bar = int(rng.integers(1, 5))
        cv2.rectangle(image, (at, y + 4), (at + bar - 1, y + height - 9), INK, -1)
        at += bar + int(rng.integers(2, 5))


def facts_table(image: np.ndarray, x: int, y: int, width: int, height: int, seed: int) -> None:
    """Draw a nutrition table: frame, heading, rows."""
    cv2.rectangle(image, (x, y), (x + width, y + height), (252, 252, 250), -1)
    cv2.rectangle(image, (x, y), (x + width, y + height), INK, 2)
    text(image, "FACTS", (x + width / 2, y + 13), width * 0.6, INK, 1)
    for row, line in enumerate(range(y + 28, y + height - 6, 12)):
        cv2.line(image, (x + 4, line + 5), (x + width - 4, line + 5), (150, 150, 150), 1)
        fine_print(image, x + 5, line, int(width * (0.3 + 0.1 * (row % 3))), 4, INK, seed + row)
        fine_print(image, x + width - 24, line, 18, 4, INK, seed + 50 + row)


def fruit(image: np.ndarray, center: tuple[int, int], radius: int, color: Color) -> None:
    """Draw a shaded ball with leaf and highlight."""
    x, y = center
    for step in range(12):
        share = step / 12
        shade = tuple(int(c * (0.55 + 0.5 * share)) if c * (0.55 + 0.5 * share) < 255 else 255 for c in color)
        at = (int(x - radius * 0.25 * share), int(y - radius * 0.25 * share))
        cv2.circle(image, at, max(1, int(radius * (1 - 0.9 * share))), shade, -1, cv2.LINE_AA)
    cv2.ellipse(
        image, (x + radius // 2, y - radius), (radius // 2, radius // 5), -30, 0, 360, (62, 128, 52), -1, cv2.LINE_AA
    )
    cv2.line(image, (x, y - radius + 3), (x + 4, y - radius - radius // 3), (90, 60, 36), 3, cv2.LINE_AA)


def mountains(image: np.ndarray, x: int, y: int, width: int, height: int, seed: int) -> None:
    """Draw a small landscape: sky, sun, two ridges."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    sky = (1 - ramp) * np.array([70, 130, 200]) + ramp * np.array([250, 214, 160])
    image[y : y + height, x : x + width] = np.broadcast_to(sky, (height, width, 3)).astype(np.uint8)
    view = image[y : y + height, x : x + width]
    cv2.circle(view, (int(width * 0.72), int(height * 0.35)), height // 7, (255, 236, 150), -1, cv2.LINE_AA)
    for base, color in ((0.55, (96, 112, 140)), (0.75, (48, 92, 66))):
        xs = np.linspace(0, width, 9)
        ys = height * (base + rng.uniform(-0.16, 0.14, 9))
        ridge = np.stack([np.r_[xs, width, 0], np.r_[ys, height, height]], 1).astype(np.int32)
        cv2.fillPoly(view, [ridge], color, cv2.LINE_AA)


def stripes(image: np.ndarray, y: int, height: int, colors: list[Color], slope: float = 0.0) -> None:
    """Draw bands across the whole width, slanted by `slope` pixels a pixel."""
    width = image.shape[1]
    for k, color in enumerate(colors):
        top = y + k * height // len(colors)
        low = y + (k + 1) * height // len(colors)
        rise = int(slope * width)
        band = np.array([[0, top], [width, top + rise], [width, low + rise], [0, low]], np.int32)
        cv2.fillPoly(image, [band], color, cv2.LINE_AA)


def bottle_label(width: int, height: int) -> np.ndarray:
    """Juice bottle wrap: body colour below and above, label with fruit, name, table and barcode between."""
    image = plain(height, width, (206, 96, 34), 1, 6)
    top, low = int(height * 0.36), int(height * 0.9)
    image[top:low] = PAPER
    stripes(image, top, 14, [(36, 104, 60), (240, 196, 52)])
    stripes(image, low - 22, 22, [(240, 196, 52), (36, 104, 60), (20, 60, 40)])
    middle = (top + low) // 2
    text(image, "SOLARA", (width * 0.22, middle - 50), width * 0.36, (200, 60, 24), 5)
    text(image, "orange nectar", (width * 0.22, middle - 12), width * 0.3, (36, 84, 50), 2)
    for dx, dy, r in ((0.12, 52, 32), (0.22, 64, 36), (0.31, 50, 28)):
        fruit(image, (int(width * dx), middle + dy), r, (236, 130, 30))
    facts_table(image, int(width * 0.46), top + 26, int(width * 0.2), low - top - 60, 3)
    barcode(image, int(width * 0.7), middle + 12, int(width * 0.14), 78, 4)
    fine_print(image, int(width * 0.69), top + 28, int(width * 0.26), 60, INK, 5)
    cv2.circle(image, (int(width * 0.91), middle + 50), 26, (44, 110, 180), -1, cv2.LINE_AA)
    text(image, "1L", (width * 0.91, middle + 50), 30, (255, 255, 255), 3)
    return image


def mug_glaze(width: int, height: int) -> np.ndarray:
    """Stoneware mug: two glazes, a painted landscape, a word, dots."""
    image = plain(height, width, (226, 220, 204), 11, 5)
    image[int(height * 0.72) :] = plain(height - int(height * 0.72), width, (46, 92, 120), 12, 8)
    edge = (height * 0.72 + 6 * np.sin(np.arange(width) / width * 2 * np.pi * 7)).astype(int)
    for x in range(width):
        image[int(height * 0.68) : edge[x], x] = (226, 220, 204)
        image[edge[x] : int(height * 0.76), x] = (46, 92, 120)
    mountains(image, int(width * 0.28), int(height * 0.1), int(width * 0.26), int(height * 0.5), 13)
    text(image, "GOOD", (width * 0.7, height * 0.22), width * 0.2, (170, 44, 40), 5)
    text(image, "MORNING", (width * 0.72, height * 0.45), width * 0.26, INK, 3)
    for k, color in enumerate([(190, 60, 50), (230, 170, 60), (70, 130, 90), (60, 90, 160)] * 2):
        cv2.circle(
            image, (int(width * (0.05 + 0.024 * k)), int(height * (0.16 + 0.06 * k))), 11, color, -1, cv2.LINE_AA
        )
    return image


def can_label(width: int, height: int) -> np.ndarray:
    """Soup can: red and cream halves, medallion, recipe text."""
    image = plain(height, width, (176, 30, 34), 21, 5)
    image[height // 2 : int(height * 0.93)] = PAPER
    image[: int(height * 0.05)] = image[int(height * 0.95) :] = (186, 186, 190)
    text(image, "HARVEST", (width * 0.25, height * 0.26), width * 0.38, (250, 246, 232), 5)
    text(image, "TOMATO SOUP", (width * 0.25, height * 0.68), width * 0.4, (150, 24, 28), 3)
    cv2.circle(image, (width // 4, int(height * 0.5)), 22, (222, 180, 70), -1, cv2.LINE_AA)
    fruit(image, (int(width * 0.58), int(height * 0.6)), 46, (214, 46, 34))
    fruit(image, (int(width * 0.66), int(height * 0.68)), 34, (224, 70, 40))
    facts_table(image, int(width * 0.78), int(height * 0.12), int(width * 0.17), int(height * 0.6), 22)
    barcode(image, int(width * 0.79), int(height * 0.75), int(width * 0.14), int(height * 0.16), 23)
    fine_print(image, int(width * 0.52), int(height * 0.12), int(width * 0.2), int(height * 0.22), PAPER, 24)
    return image


def spray_label(width: int, height: int) -> np.ndarray:
    """Spray can: dark body, slanted colour bands, warning signs."""
    image = plain(height, width, (30, 52, 104), 31, 4)
    stripes(image, int(height * 0.28), 70, [(236, 236, 232), (240, 150, 30), (210, 44, 60)], 0.18)
    image[: int(height * 0.14)] = plain(int(height * 0.14), width, (232, 232, 230), 32)
    image[int(height * 0.96) :] = (170, 172, 176)
    text(image, "ULTRA", (width * 0.24, height * 0.62), width * 0.34, (245, 245, 245), 6)
    text(image, "GLOSS", (width * 0.26, height * 0.74), width * 0.3, (240, 150, 30), 5)
    cv2.rectangle(image, (int(width * 0.58), int(height * 0.55)), (int(width * 0.92), int(height * 0.92)), PAPER, -1)
    fine_print(image, int(width * 0.6), int(height * 0.58), int(width * 0.3), int(height * 0.18), INK, 33)
    barcode(image, int(width * 0.62), int(height * 0.78), int(width * 0.14), int(height * 0.12), 34)
    sign = np.array([[0.84, 0.78], [0.9, 0.89], [0.78, 0.89]]) * (width, height)
    cv2.fillPoly(image, [sign.astype(np.int32)], (240, 190, 30), cv2.LINE_AA)
    text(image, "!", (width * 0.84, height * 0.86), 8, INK, 4)
    return image


def carton_side(width: int, height: int, side: int) -> np.ndarray:
    """One of the six sides of a food carton (0 front, 1 back, 2 and 3 narrow sides, 4 top, 5 bottom)."""
    image = plain(height, width, (238, 200, 60) if side in (0, 3, 4) else (52, 104, 170), 40 + side, 4)
    if side == 0:
        stripes(image, int(height * 0.3), int(height * 0.12), [(52, 104, 170), (244, 244, 240)], -0.1)
        text(image, "CRISPO", (width / 2, height * 0.14), width * 0.82, (190, 36, 40), 6)
        mountains(image, int(width * 0.1), int(height * 0.44), int(width * 0.8), int(height * 0.4), 44)
        fruit(image, (int(width * 0.3), int(height * 0.72)), int(width * 0.15), (216, 60, 50))
        text(image, "500 g", (width * 0.75, height * 0.93), width * 0.3, INK, 3)
    elif side == 1:
        text(image, "crispo", (width * 0.35, height * 0.1), width * 0.5, (250, 240, 200), 4)
        facts_table(image, int(width * 0.08), int(height * 0.2), int(width * 0.4), int(height * 0.5), 45)
        fine_print(image, int(width * 0.54), int(height * 0.22), int(width * 0.38), int(height * 0.4), PAPER, 46)
        barcode(image, int(width * 0.5), int(height * 0.76), int(width * 0.42), int(height * 0.16), 47)
    elif side in (2, 3):
        ink = PAPER if side == 2 else INK
        fine_print(
            image,
            int(width * 0.12),
            int(height * 0.35 if side == 2 else 0.1 * height),
            int(width * 0.7),
            int(height * 0.4),
            ink,
            48 + side,
        )
        tone = (230, 120, 40) if side == 2 else (40, 130, 90)
        cv2.circle(
            image, (width // 2, int(height * (0.18 if side == 2 else 0.78))), int(width * 0.33), tone, -1, cv2.LINE_AA
        )
    else:
        text(image, "OPEN" if side == 4 else "L 2217 B", (width / 2, height / 2), width * 0.6, INK, 3)
    return image


def drill_body(width: int, height: int, name: str) -> np.ndarray:
    """Power tool side: housing, maker's name, vents, rating plate."""
    image = plain(height, width, (222, 168, 30), 61, 5)
    text(image, name, (width * 0.45, height * 0.13), width * 0.42, INK, 4)
    text(image, "18V", (width * 0.18, height * 0.24), width * 0.12, (180, 30, 30), 4)
    for k in range(6):
        cv2.line(
            image,
            (int(width * 0.8) + 11 * k, int(height * 0.06)),
            (int(width * 0.76) + 11 * k, int(height * 0.2)),
            INK,
            4,
        )
    image[int(height * 0.36) : int(height * 0.8)] = plain(
        int(height * 0.8) - int(height * 0.36), width, (44, 44, 48), 62, 9
    )
    for k in range(9):
        y = int(height * (0.4 + 0.04 * k))
        cv2.line(image, (0, y), (width, y + 10), (66, 66, 72), 3)
    image[int(height * 0.8) :] = plain(height - int(height * 0.8), width, (176, 40, 36), 63, 6)
    text(image, "Li-Ion 4.0Ah", (width * 0.4, height * 0.91), width * 0.32, PAPER, 3)
    return image
