#!/usr/bin/env python3
"""Small pictures and what Pillow makes of them, for the tests of decoding and resizing; seeded, so always the same.

    pip install pillow numpy
    scripts/make_picture_fixtures.py [FOLDER]      default: tests/runtime/model/data/pictures

For each size and filter a PNG of the answer: PICTURE_WIDTHxHEIGHT_FILTER.png.
"""

import pathlib
import sys

import numpy as np
from PIL import Image

out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else
                   pathlib.Path(__file__).resolve().parent.parent / "tests/runtime/model/data/pictures")
out.mkdir(parents=True, exist_ok=True)

y, x = np.mgrid[0:47, 0:61]
noise = np.random.default_rng(1).integers(-20, 20, (47, 61, 3))
photo = np.stack([x * 4, y * 5, 255 - (x + y) * 2], axis=2) + noise
photo = Image.fromarray(np.clip(photo, 0, 255).astype(np.uint8))
photo.save(out / "photo.png")
photo.save(out / "photo.jpg", quality=90)
photo.convert("L").save(out / "grey.jpg", quality=90)
transparent = photo.convert("RGBA")
transparent.putalpha(Image.fromarray(np.where(x < 30, 0, 255).astype(np.uint8)))
transparent.save(out / "transparent.png")
photo.quantize(16).save(out / "palette.png")
Image.open(out / "photo.jpg").convert("RGB").save(out / "photo_jpg.png")
for width, height in ((20, 15), (7, 40), (90, 70), (61, 20), (1, 1)):
    for name, how in (("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC)):
        photo.resize((width, height), how).save(out / f"photo_{width}x{height}_{name}.png")
