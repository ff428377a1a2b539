"""The same picture behind a round mask, with a ruler in it, or photographed off a screen.

A mask and a ruler are how many dermoscopes deliver; a photograph of a screen is another camera's picture of a picture.
Rulers are drawn as a dermoscope's scale (ticks on the skin along an edge) and as a paper strip. A screen is computed:
its pixels with their three stripes and the gaps between them in linear light, seen by a camera at a slight angle and
with a soft lens, with a lifted black, a cast of colour, a reflection, vignetting, noise, and saved as JPEG. There is
no Bayer pattern and no sharpening, so real cameras show more coloured moire than this one.
"""

from __future__ import annotations

import io
from typing import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter


def circle(image: Image.Image, radius: float, colour: int, rng: np.random.Generator) -> Image.Image:
    "Masked to a circle; radius in halves of the shorter side: 1 touches it, 1.25 cuts the corners."
    w, h = image.size
    y, x = np.ogrid[:h, :w]
    shift = rng.uniform(-0.03, 0.03, 2) * h
    away = np.hypot(x - w / 2 - shift[0], y - h / 2 - shift[1])
    inside = np.clip(radius * h / 2 - away + 0.5, 0, 1)[..., None]
    flat = np.full((h, w, 3), colour, np.float32) + rng.normal(0, 1, (h, w, 1))
    return Image.fromarray((inside * np.asarray(image) + (1 - inside) * flat).clip(0, 255).astype(np.uint8))


def ticks(image: Image.Image, rng: np.random.Generator, strip: bool) -> Image.Image:
    "A ruler along an edge: dark ticks, every fifth longer; on the skin, or on a strip of paper."
    turn = int(rng.integers(4))
    image = image.rotate(90 * turn, expand=True)
    w, h = image.size
    made = image.copy()
    pen = ImageDraw.Draw(made)
    deep, step = (0.1 if strip else 0.07) * h, w / rng.uniform(12, 26)
    if strip:
        pen.rectangle(
            (0, h - deep, w, h), fill=tuple(int(c) for c in rng.uniform(215, 245) * np.array((1, 0.99, 0.95)))
        )
    dark, start = tuple(int(c) for c in rng.uniform(15, 60, 3)), rng.uniform(0, step)
    for i in range(int(w / step) + 1):
        long = deep * (0.85 if i % 5 == 0 else 0.5)
        pen.line((start + i * step, h - long, start + i * step, h), fill=dark, width=max(1, round(w / 300)))
    made = Image.blend(image, made, 1.0 if strip else rng.uniform(0.6, 1.0))
    return made.rotate(-90 * turn, expand=True)


def _stripes(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    "Which part of a screen's pixel lights, of each colour: three upright stripes with gaps."
    fu, fv = (u % 1)[..., None], (v % 1)[..., None]
    lit = np.abs(fu - np.array((1 / 6, 0.5, 5 / 6))) < 0.14
    return np.where(lit & (fv > 0.06) & (fv < 0.94), 1 / (0.28 * 0.88), 0.0).astype(np.float32)


def _shown(image: Image.Image, wide: int) -> np.ndarray:
    "What is on the screen, linear light."
    high = round(wide * image.height / image.width)
    return (np.asarray(image.resize((wide, high), Image.Resampling.BICUBIC), np.float32) / 255) ** 2.2


def screen(
    image: Image.Image,
    rng: np.random.Generator,
    wide: int = 640,  # of the camera's picture, pixels
    fills: float = 1.15,  # width of the shown picture as a share of the camera's; below 1 the bezel is in view
    grain: float = 0.0,  # camera pixels per screen pixel; 0 draws one between 0.8 and 3
) -> Image.Image:
    "Photographed off a screen."
    grain = grain or float(np.exp(rng.uniform(np.log(0.8), np.log(3.0))))
    high, across = wide * 3 // 4, max(64, round(wide * fills / grain))
    light = _shown(image, across)
    a, tilt = np.deg2rad(rng.uniform(-4, 4)), rng.uniform(-0.12, 0.12, 2)
    soft = rng.uniform(1.0, 1.8)  # pixels over which the lens and the sensor take their mean
    total = np.zeros((high, wide, 3), np.float32)
    for i in range(16):
        shift = soft * (np.array((i // 4, i % 4)).reshape(2, 1, 1) / 4 - 0.375)
        y, x = (np.mgrid[:high, :wide] + shift).astype(np.float32)
        x, y = x - wide / 2, y - high / 2
        depth = grain * (1 + tilt[0] * x / wide + tilt[1] * y / wide)
        u = (np.cos(a) * x + np.sin(a) * y) / depth + light.shape[1] / 2
        v = (np.cos(a) * y - np.sin(a) * x) / depth + light.shape[0] / 2
        inside = (u >= 0) & (v >= 0) & (u < light.shape[1]) & (v < light.shape[0])
        at = light[v.clip(0, light.shape[0] - 1).astype(int), u.clip(0, light.shape[1] - 1).astype(int)]
        edge = np.maximum(np.abs(u / light.shape[1] - 0.5), np.abs(v / light.shape[0] - 0.5))
        around = np.where(edge < 0.56, 0.006, 0.25)[..., None]  # a black frame, and a wall behind it
        total += np.where(inside[..., None], at * _stripes(u, v), around) / 16
    return _developed(total, rng)


def _developed(light: np.ndarray, rng: np.random.Generator) -> Image.Image:
    "A camera's picture of linear light: lens, reflection, balance, tone, noise."
    high, wide, _ = light.shape
    y, x = np.mgrid[-1 : 1 : high * 1j, -1 : 1 : wide * 1j].astype(np.float32)
    at = rng.uniform(-0.8, 0.8, 2)
    glare = rng.uniform(0, 0.25) * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / rng.uniform(0.05, 0.4))
    light = rng.uniform(0.75, 1.15) * light * (1 - rng.uniform(0, 0.25) * (x**2 + y**2) / 2)[..., None]
    light = (
        light * (1 + rng.normal(0, 0.05, 3) + np.array((-0.03, 0, 0.06))) + glare[..., None] + rng.uniform(0.002, 0.02)
    )
    made = 255 * light.clip(0, 1) ** (1 / rng.uniform(2.0, 2.4)) + rng.normal(0, 2, (high, wide, 1))
    return Image.fromarray(made.clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.7)))


def crops(image: Image.Image, rng: np.random.Generator, n: int = 4) -> list[Image.Image]:
    "Random parts of a picture."
    found = []
    for _ in range(n):
        w, h = (max(64, int(side * rng.uniform(0.3, 0.7))) for side in image.size)
        x, y = (int(rng.integers(0, max(1, a - b + 1))) for a, b in zip(image.size, (w, h)))
        found.append(image.crop((x, y, x + w, y + h)))
    return found


def saved(image: Image.Image, quality: int = 90) -> bytes:
    "A JPEG file."
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


Disguise = Callable[[Image.Image, np.random.Generator], Image.Image]
DISGUISES: dict[str, Disguise] = {
    "as they are": lambda im, rng: im,
    "black mask, corners": lambda im, rng: circle(im, 1.2, 3, rng),
    "black mask, whole circle": lambda im, rng: circle(im, 0.97, 3, rng),
    "white mask, whole circle": lambda im, rng: circle(im, 0.97, 252, rng),
    "scale on the skin": lambda im, rng: ticks(im, rng, False),
    "paper ruler": lambda im, rng: ticks(im, rng, True),
    "screen, bezel in view": lambda im, rng: screen(im, rng, fills=rng.uniform(0.6, 0.85)),
    "screen, filled": lambda im, rng: screen(im, rng),
}
