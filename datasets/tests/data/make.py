"""Makes the image files beside it that Rust's encoders cannot write, and prints what Pillow reads out of them.

    python3 -m venv venv && venv/bin/pip install pillow==13.0.0 && venv/bin/python make.py
"""

import pathlib

from PIL import Image

HERE = pathlib.Path(__file__).parent

# A picture with an alpha that grows to the right; 20 x 12 is no multiple of a block of 16.
rgba = Image.new("RGBA", (20, 12))
rgba.putdata([(x * 12, y * 20, 100, 40 + x * 10) for y in range(12) for x in range(20)])
rgb = rgba.convert("RGB")


def exif(orientation):
    made = Image.Exif()
    made[274] = orientation
    return made


rgb.save(HERE / "lossy.webp", quality=60, method=6, exif=exif(6))
rgba.save(HERE / "lossy-alpha.webp", quality=60, method=6)
# The first frame is opaque and as large as the canvas: Pillow has no other way to write one.
rgba.save(HERE / "moving.webp", save_all=True, append_images=[rgb.rotate(180)], quality=60, method=6)
rgb.save(HERE / "interlaced.gif", interlace=1)
rgb.save(HERE / "lzw.tiff", compression="tiff_lzw")
rgb.convert("P", palette=Image.Palette.ADAPTIVE, colors=7).save(HERE / "palette.bmp")

for path in sorted(HERE.glob("*.*")):
    if path.suffix != ".py":
        image = Image.open(path)
        pixels = image.convert("RGBA")
        corners = [pixels.getpixel(place) for place in [(0, 0), (19, 0), (0, 11), (19, 11)]]
        print(path.name, path.stat().st_size, image.mode, image.size, corners)
