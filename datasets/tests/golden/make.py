"""Makes the files beside it: what PyTorch, torchvision and Pillow really give, for `tests/it/golden` to compare with.

    python3 -m venv venv && venv/bin/pip install torch torchvision pillow numpy && venv/bin/python make.py

Deterministic for given versions, which `torch.json` names. `images/` holds tiny image files, `decode.npz` their pixels,
`transforms.npz` one small photo-like picture after every transform, `torch.json` names, lengths and histograms.
"""

import inspect
import json
import pathlib
import warnings

import numpy as np
import PIL
import torch
import torchvision
from PIL import Image
from torch.utils import data
from torchvision import datasets, tv_tensors
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F
from torchvision.transforms.v2 import InterpolationMode

HERE = pathlib.Path(__file__).parent
IMAGES = HERE / "images"
DRAWS = 10_000
BINS = 20
BILINEAR, NEAREST = InterpolationMode.BILINEAR, InterpolationMode.NEAREST

warnings.simplefilter("ignore")
torch.set_num_threads(1)


def photo(height, width):
    """Sky, ground, a red disc, stripes and a little noise: smooth parts, edges, fine detail, all channels different."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    red = 120 + 90 * np.sin(x / 6) * np.cos(y / 9)
    green = 60 + 130 * y / height + 30 * np.sin((x + y) / 3)
    blue = 200 - 150 * x / width
    disc = (x - width * 0.6) ** 2 + (y - height * 0.4) ** 2 < (height * 0.22) ** 2
    red, green, blue = np.where(disc, 225, red), np.where(disc, 30, green), np.where(disc, 40, blue)
    stripes = (y > height * 0.75) & (x.astype(int) % 4 < 2)
    pixels = np.stack([red, green, blue], axis=2)
    pixels[stripes] = pixels[stripes] * 0.4
    noise = (x * 7919 + y * 104_729 + x * y * 31).astype(int) % 5 - 2
    return np.clip(pixels + noise[:, :, None], 0, 255).astype(np.uint8)


def classes(height, width):
    """A mask of six classes in slanted bands."""
    y, x = np.mgrid[0:height, 0:width]
    return ((x + 2 * y) // 15 % 6).astype(np.uint8)


def ramp(height, width, step):
    """Says by its first two channels where each pixel was; the third is white, so that no pixel is black."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * step, y * step, np.full_like(x, 255)], axis=2).astype(np.uint8)


def to_torch(pixels):
    return tv_tensors.Image(torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))))


def to_numpy(tensor):
    return np.ascontiguousarray(tensor.numpy().transpose(1, 2, 0))


# Files and their pixels.


def save(name, image, **options):
    image.save(IMAGES / name, **options)


def write_images():
    IMAGES.mkdir(exist_ok=True)
    # Odd extents: the last blocks and the last subsampled colours are cut through.
    large = Image.fromarray(photo(31, 41))
    for name, options in {
        "jpeg-444.jpg": dict(quality=92, subsampling="4:4:4"),
        "jpeg-422.jpg": dict(quality=85, subsampling="4:2:2"),
        "jpeg-420.jpg": dict(quality=75, subsampling="4:2:0"),
        "jpeg-low-quality.jpg": dict(quality=20, subsampling="4:2:0"),
        "jpeg-progressive.jpg": dict(quality=80, subsampling="4:2:0", progressive=True),
        "jpeg-restart-markers.jpg": dict(quality=80, subsampling="4:2:0", restart_marker_blocks=2),
    }.items():
        save(name, large, **options)
    save("jpeg-gray.jpg", large.convert("L"), quality=85)
    save("jpeg-cmyk.jpg", large.convert("CMYK"), quality=90)
    rotated = Image.Exif()
    rotated[0x0112] = 6
    save("jpeg-orientation-6.jpg", large, quality=90, subsampling="4:4:4", exif=rotated)

    save("webp-lossless.webp", large, lossless=True)
    save("webp-lossy.webp", large, quality=80)

    small = photo(13, 21)
    rgb = Image.fromarray(small)
    alpha = np.linspace(0, 255, 13 * 21).astype(np.uint8).reshape(13, 21)
    rgba = Image.fromarray(np.dstack([small, alpha]))
    gray = rgb.convert("L")
    gray_alpha = Image.merge("LA", [gray, Image.fromarray(alpha)])
    palette = rgb.quantize(64)
    bits = rgb.convert("1")
    # Lower bytes of all kinds: whether they are cut off or rounded can be seen.
    lower = lambda pixels: (pixels.astype(np.uint16) << 8) + (np.arange(pixels.size).reshape(pixels.shape) * 37 % 256)
    sixteen = Image.fromarray(lower(np.asarray(gray)).astype(np.uint16))
    save("png-rgb.png", rgb)
    save("png-rgba.png", rgba)
    save("png-gray.png", gray)
    save("png-gray-alpha.png", gray_alpha)
    save("png-palette.png", palette)
    save("png-palette-4-bits.png", rgb.quantize(13), bits=4)
    save("png-palette-transparency.png", palette, transparency=3)
    save("png-1-bit.png", bits)
    save("png-gray-16-bits.png", sixteen)
    write_png_rgb16(IMAGES / "png-rgb-16-bits.png", lower(small))
    save("webp-alpha.webp", rgba, lossless=True, exact=True)
    save("bmp-rgb.bmp", rgb)
    save("bmp-palette.bmp", palette)
    save("bmp-gray.bmp", gray)
    save("bmp-1-bit.bmp", bits)
    save("gif-palette.gif", palette)
    save("gif-transparency.gif", palette, transparency=3)
    save("gif-animated.gif", palette, save_all=True, append_images=[palette.rotate(180)], duration=100)
    for compression in [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"]:
        save(f"tiff-rgb-{compression or 'raw'}.tiff", rgb, compression=compression)
    save("tiff-rgba.tiff", rgba)
    save("tiff-gray.tiff", gray)
    save("tiff-palette.tiff", palette)
    save("tiff-gray-16-bits.tiff", sixteen)
    save("tiff-1-bit.tiff", bits)


def write_png_rgb16(path, pixels):
    """Pillow writes no 16-bit colour."""
    import struct
    import zlib

    height, width, _ = pixels.shape
    chunk = lambda kind, body: struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    blocks = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows, 9)), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(blocks))


def decode():
    """The pixels of every file as torchvision reads them, and where it reads no such file as Pillow does.

    Returns which have the pixels of which other: those are kept once.
    """
    pixels, same = {}, {}
    for path in sorted(IMAGES.iterdir()):
        image = Image.open(path)
        modes = {"rgb": ("RGB", ImageReadMode.RGB), "gray": ("L", ImageReadMode.GRAY)}
        if any(word in path.name for word in ["alpha", "rgba", "transparency"]):
            modes["rgba"] = ("RGBA", ImageReadMode.RGB_ALPHA)
        for mode, (pillow_mode, read_mode) in modes.items():
            try:
                # Pillow's is the one to follow where gray is another luma in torchvision, or none: in all but JPEG; and
                # for GIF, whose transparent pixels torchvision paints over.
                if path.suffix == ".gif" or mode == "gray" and path.suffix != ".jpg":
                    raise RuntimeError("not by torchvision")
                tensor = decode_image(torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8), read_mode)
                assert tensor.dtype == torch.uint8 and tensor.ndim == 3, path
                decoded = to_numpy(tensor)
            except (RuntimeError, AssertionError):
                if image.mode.startswith("I;16"):
                    image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
                decoded = np.asarray(image.convert(pillow_mode))
                decoded = decoded.reshape(*decoded.shape[:2], -1)
            name = f"{path.name}/{mode}"
            equal = [known for known, other in pixels.items() if np.array_equal(other, decoded)]
            if equal:
                same[name] = equal[0]
            else:
                pixels[name] = decoded
    turned = torch.frombuffer(bytearray((IMAGES / "jpeg-orientation-6.jpg").read_bytes()), dtype=torch.uint8)
    pixels["jpeg-orientation-6.jpg/upright"] = to_numpy(decode_image(turned, apply_exif_orientation=True))
    np.savez_compressed(HERE / "decode.npz", **pixels)
    return same


# Transforms with parameters that leave nothing to chance.


def transforms():
    pixels, mask_pixels = photo(24, 32), classes(24, 32)
    image, mask = to_torch(pixels), tv_tensors.Mask(torch.from_numpy(mask_pixels))
    sky = to_torch(pixels[:9])
    # By the classes, whose defaults differ from the functions': `fill=0` there, none here, and edges are not the same.
    rotate = lambda angle, **options: v2.RandomRotation((angle, angle), **options)

    def affine(angle, scale=1.0, shear=(0, 0), **options):
        shear = [shear[0], shear[0], shear[1], shear[1]]
        return v2.RandomAffine((angle, angle), scale=(scale, scale), shear=shear, **options)

    dim = F.adjust_contrast(image, 0.4)  # Neither black nor white is in it: `autocontrast` has something to do.
    cases = {
        "resize-shorter-13": F.resize(image, [13], antialias=True),
        "resize-shorter-31": F.resize(image, [31], antialias=True),
        "resize-exact-16x17": F.resize(image, [16, 17], antialias=True),
        "resize-exact-35x13": F.resize(image, [35, 13], antialias=True),
        "resize-longest-20": F.resize(image, None, max_size=20, antialias=True),
        "resize-shorter-13-nearest": F.resize(image, [13], interpolation=NEAREST),
        "resize-shorter-13-bicubic": F.resize(image, [13], interpolation=InterpolationMode.BICUBIC, antialias=True),
        "center-crop-16": F.center_crop(image, [16]),
        "center-crop-11x27": F.center_crop(image, [11, 27]),
        "random-crop-padded-whole": v2.RandomCrop([32, 40], padding=4)(image),
        "random-crop-padded-reflect": v2.RandomCrop([30, 44], padding=[6, 3], padding_mode="reflect")(image),
        "random-resized-crop-whole": v2.RandomResizedCrop([16, 24], scale=(1, 1), ratio=(4 / 3, 4 / 3))(image),
        "pad-constant": F.pad(image, [3], fill=[10.0, 20.0, 30.0]),
        "pad-sides": F.pad(image, [1, 2, 3, 4], fill=7.0),
        "pad-edge": F.pad(image, [3, 5], padding_mode="edge"),
        "pad-reflect": F.pad(image, [3, 5], padding_mode="reflect"),
        "pad-symmetric": F.pad(image, [3, 5], padding_mode="symmetric"),
        "horizontal-flip": F.horizontal_flip(image),
        "vertical-flip": F.vertical_flip(image),
        "rotation-30-nearest": rotate(30)(image),
        "rotation-30-bilinear": rotate(30, interpolation=BILINEAR)(image),
        "rotation-90": rotate(90)(image),
        "rotation-25-expand": rotate(25, expand=True)(image),
        "rotation-25-expand-bilinear": rotate(25, expand=True, interpolation=BILINEAR)(image),
        "rotation-minus-40-fill": rotate(-40, fill=[200.0, 100.0, 50.0])(image),
        "rotation-30-bilinear-fill": rotate(30, interpolation=BILINEAR, fill=90)(image),
        # At 1.3 there are places exactly between two pixels, and it is chance which of them is taken.
        "affine-scale-1.27": affine(0, scale=1.27)(image),
        "affine-scale-0.7-bilinear": affine(0, scale=0.7, interpolation=BILINEAR)(image),
        "affine-shear-15": affine(0, shear=[15, 0])(image),
        "affine-shear-both": affine(0, shear=[10, -8])(image),
        "affine-all": affine(20, scale=0.8, shear=[10, 5], fill=9)(image),
        "affine-all-bilinear": affine(20, scale=0.8, shear=[10, 5], fill=9, interpolation=BILINEAR)(image),
        "brightness-1.4": F.adjust_brightness(image, 1.4),
        "brightness-0.6": F.adjust_brightness(image, 0.6),
        "contrast-1.4": F.adjust_contrast(image, 1.4),
        "contrast-0.6": F.adjust_contrast(image, 0.6),
        "saturation-1.4": F.adjust_saturation(image, 1.4),
        "saturation-0.6": F.adjust_saturation(image, 0.6),
        "saturation-0": F.adjust_saturation(image, 0),
        "hue-0.1": F.adjust_hue(image, 0.1),
        "hue-minus-0.2": F.adjust_hue(image, -0.2),
        "hue-0.5": F.adjust_hue(image, 0.5),
        "grayscale-1": F.to_grayscale(image, 1),
        "grayscale-3": F.to_grayscale(image, 3),
        "gaussian-blur-5": F.gaussian_blur(image, [5, 5], [1.3, 1.3]),
        "gaussian-blur-3x7": F.gaussian_blur(image, [3, 7], [0.5, 0.5]),
        "posterize-3": F.posterize(image, 3),
        "solarize-128": F.solarize(image, 128),
        "autocontrast": F.autocontrast(dim),
        "equalize": F.equalize(image),
        "equalize-sky": F.equalize(sky),
        "invert": F.invert(image),
        "sharpness-2": F.adjust_sharpness(image, 2),
        "sharpness-0.3": F.adjust_sharpness(image, 0.3),
        "random-erasing-none": image,
    }
    named = {name: to_numpy(tensor) for name, tensor in cases.items()}
    named["five-crop-10x14"] = np.stack([to_numpy(crop) for crop in F.five_crop(image, [10, 14])])

    named["grayscale-pillow"] = np.asarray(Image.fromarray(pixels).convert("L"))[:, :, None]

    small = F.resize(image, [6, 8], antialias=True)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    as_f32 = F.to_dtype(small, torch.float32, scale=True)
    named["small"] = to_numpy(small)
    named["to-f32"] = to_numpy(as_f32)
    named["to-nchw"] = small.numpy()
    named["normalize"] = to_numpy(F.normalize(as_f32, mean, std))
    named["one-hot"] = torch.nn.functional.one_hot(torch.tensor(3), 5).numpy()

    masks = {
        "resize-exact-16x17": F.resize(mask, [16, 17]),
        "center-crop-16": F.center_crop(mask, [16]),
        "pad-sides": F.pad(mask, [1, 2, 3, 4], fill=0),
        "horizontal-flip": F.horizontal_flip(mask),
        "vertical-flip": F.vertical_flip(mask),
        "rotation-30-bilinear": rotate(30, interpolation=BILINEAR)(mask),
        "affine-all-bilinear": affine(20, scale=0.8, shear=[10, 5], interpolation=BILINEAR)(mask),
    }
    named |= {f"mask/{name}": tensor.numpy() for name, tensor in masks.items()}
    named |= {"photo": pixels, "mask": mask_pixels, "dim": to_numpy(dim), "sky": pixels[:9]}

    points, features, operations, _ = trivial_augment_candidates()
    named |= {"trivial-augment/points": points, "trivial-augment/features": features}
    named |= {"trivial-augment/operations": operations, "trivial-augment/input": AUGMENTED}
    np.savez_compressed(HERE / "transforms.npz", **named)


# Random transforms: histograms of one whole number that a draw can be told by.

AUGMENTED = np.clip(photo(48, 48), 24, 231)


def trivial_augment_candidates():
    """What each operation of `TrivialAugmentWide` makes of one image at each magnitude: a few pixels tell them apart.

    Those that give the same pixels count as the first of them. Returns the points, their pixels by candidate, the
    operation of each candidate and how likely it is.
    """
    transform = v2.TrivialAugmentWide()
    space = transform._AUGMENTATION_SPACE
    image = to_torch(AUGMENTED)
    points = [(0, 0), (0, 47), (47, 0), (47, 47), (3, 24), (24, 3), (44, 24), (24, 44), (20, 30), (30, 13), (9, 35)]
    points = np.array(points + [(37, 40), (15, 9), (26, 22), (40, 6), (5, 14)], dtype=np.uint8)
    features, operations, likely = [], [], []
    for place, (name, (magnitudes_of, signed)) in enumerate(space.items()):
        magnitudes = magnitudes_of(31, 48, 48)
        magnitudes = [0.0] if magnitudes is None else [float(magnitude) for magnitude in magnitudes]
        signs = [1, -1] if signed else [1]
        for magnitude in magnitudes:
            for sign in signs:
                fill = {tv_tensors.Image: None}
                made = transform._apply_image_or_video_transform(image, name, sign * magnitude, NEAREST, fill)
                feature = features_of(to_numpy(made), points)
                chance = 1 / len(space) / len(magnitudes) / len(signs)
                if feature in features:
                    likely[features.index(feature)] += chance
                else:
                    features.append(feature)
                    operations.append(place)
                    likely.append(chance)
    return points, np.array(features, dtype=np.uint8), np.array(operations, dtype=np.uint8), likely


def features_of(pixels, points):
    return [int(value) for y, x in points for value in pixels[y, x]]


def spread(pixels, axis):
    """Along an axis of a ramp of step 2 that was scaled to 32 x 32: how many pixels it had, by least squares.

    Four lines tell it. The outermost columns are left out: there antialiasing sees the border.
    """
    profile = pixels[:, :, axis].astype(int).take([4, 12, 20, 28], axis=axis).sum(axis=axis)
    return (2 * sum((2 * x - 31) * int(profile[x]) for x in range(2, 30)) + 913) // 1827


def statistics():
    """By name: the histogram of `DRAWS` draws over `edges`, each bin from its edge to below the next."""
    found = {}

    def observe(transform, pixels, observers, seed):
        torch.manual_seed(seed)
        image = to_torch(pixels)
        values = {name: [] for name in observers}
        for _ in range(DRAWS):
            made = to_numpy(transform(image))
            for name, observer in observers.items():
                values[name].append(int(observer(made)))
        for name, drawn in values.items():
            found[name] = histogram(drawn)

    wide, square = ramp(80, 100, 2), ramp(40, 40, 6)
    plain = np.full((4, 4, 3), 100, dtype=np.uint8)
    halves = np.repeat(np.array([60, 180], dtype=np.uint8), 24).reshape(4, 4, 3)
    orange = np.broadcast_to(np.array([200, 100, 50], dtype=np.uint8), (4, 4, 3))
    pink = np.broadcast_to(np.array([200, 100, 100], dtype=np.uint8), (4, 4, 3))
    point = np.zeros((9, 9, 3), dtype=np.uint8)
    point[4, 4] = 255
    white = np.full((30, 40, 3), 255, dtype=np.uint8)
    jitter = v2.ColorJitter
    first = lambda pixels: pixels[0, 0, 0]

    observe(
        v2.RandomResizedCrop(32, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), antialias=True),
        wide,
        {
            "random-resized-crop.area": lambda pixels: spread(pixels, 0) * spread(pixels, 1),
            "random-resized-crop.aspect": lambda pixels: spread(pixels, 0) * 1000 // spread(pixels, 1),
        },
        1,
    )
    observe(
        v2.RandomCrop(20),
        ramp(30, 40, 2),
        {"random-crop.left": lambda pixels: pixels[0, 0, 0] // 2, "random-crop.top": lambda pixels: pixels[0, 0, 1] // 2},
        2,
    )
    flipped = {"random-horizontal-flip": lambda pixels: pixels[0, 0, 0] > 0}
    observe(v2.RandomHorizontalFlip(0.3), ramp(4, 4, 2), flipped, 3)
    observe(v2.RandomVerticalFlip(), ramp(4, 4, 2), {"random-vertical-flip": lambda pixels: pixels[0, 0, 1] > 0}, 4)
    observe(v2.RandomGrayscale(0.2), orange, {"random-grayscale": lambda pixels: pixels[0, 0, 0] == pixels[0, 0, 2]}, 5)
    observe(jitter(brightness=0.4), plain, {"color-jitter.brightness": first}, 6)
    observe(jitter(contrast=0.4), halves, {"color-jitter.contrast": first}, 7)
    observe(jitter(saturation=0.4), orange, {"color-jitter.saturation": first}, 8)
    hue = {"color-jitter.hue": lambda pixels: int(pixels[0, 0, 1]) - int(pixels[0, 0, 2])}
    observe(jitter(hue=0.1), pink, hue, 9)
    # Brightness first clips the bright half, contrast first does not.
    order = {"color-jitter.order": lambda pixels: pixels[0, 0, 0] > 165}
    observe(jitter(brightness=(2, 2), contrast=(0.5, 0.5)), halves, order, 10)
    across = lambda pixels, axis: int(pixels[20, 35, axis]) - int(pixels[20, 5, axis])
    observe(v2.RandomRotation(30), square, {"random-rotation.sine": lambda pixels: across(pixels, 1)}, 11)
    observe(v2.RandomAffine(0, scale=(0.7, 1.3)), square, {"random-affine.scale": lambda pixels: across(pixels, 0)}, 12)
    observe(
        v2.RandomAffine(0, translate=(0.2, 0.1)),
        square,
        {
            "random-affine.translate-x": lambda pixels: pixels[20, 20, 0],
            "random-affine.translate-y": lambda pixels: pixels[20, 20, 1],
        },
        13,
    )
    shear = {"random-affine.shear": lambda pixels: int(pixels[35, 20, 0]) - int(pixels[5, 20, 0])}
    observe(v2.RandomAffine(0, shear=20), square, shear, 14)
    erased = lambda pixels: (pixels[:, :, 0] == 0)
    observe(
        v2.RandomErasing(p=0.8),
        white,
        {
            "random-erasing.area": lambda pixels: erased(pixels).sum(),
            "random-erasing.height": lambda pixels: erased(pixels).any(axis=1).sum(),
            "random-erasing.left": lambda pixels: np.argmax(erased(pixels).any(axis=0)),
            "random-erasing.top": lambda pixels: np.argmax(erased(pixels).any(axis=1)),
        },
        15,
    )
    observe(v2.GaussianBlur(5, sigma=(0.1, 2.0)), point, {"gaussian-blur.sigma": lambda pixels: pixels[4, 4, 0]}, 16)

    points, features, operations, likely = trivial_augment_candidates()
    table = {tuple(feature): int(operation) for feature, operation in zip(features.tolist(), operations)}
    operation = lambda pixels: table[tuple(features_of(pixels, points))]
    observe(v2.TrivialAugmentWide(), AUGMENTED, {"trivial-augment-wide.operation": operation}, 17)
    names = list(v2.TrivialAugmentWide._AUGMENTATION_SPACE)
    chances = [sum(chance for chance, of in zip(likely, operations) if of == place) for place in range(len(names))]
    found["trivial-augment-wide.operation"] |= {"names": names, "chances": chances}
    return found


def histogram(values):
    """Bins of about as many draws each; at most `BINS` of them."""
    values = np.sort(np.array(values))
    edges = np.unique(values[np.linspace(0, len(values) - 1, BINS + 1).astype(int)[:-1]])
    counts = np.diff(np.searchsorted(values, edges).tolist() + [len(values)])
    return {"edges": edges.tolist(), "counts": counts.tolist()}


# Lengths and orders of `torch.utils.data`.


def lengths():
    grid = []
    for samples in [1, 2, 3, 7, 10, 63, 64, 65, 100, 101]:
        for batch_size in [1, 2, 3, 10, 64, 128]:
            for drop_last in [False, True]:
                loader = data.DataLoader(torch.arange(samples), batch_size=batch_size, drop_last=drop_last)
                rows = [len(batch) for batch in loader]
                assert len(loader) == len(rows)
                grid.append([samples, batch_size, drop_last, len(rows), rows[-1] if rows else 0])
    splits = []
    for samples in [1, 2, 3, 7, 10, 11, 99, 100, 101, 1000, 60_000]:
        for fractions in [[1.0], [0.5, 0.5], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4], [0.8, 0.1, 0.1], [0.7, 0.2, 0.1],
                          [0.25, 0.25, 0.25, 0.25], [0.3, 0.3, 0.4], [0.9, 0.05, 0.05]]:  # fmt: skip
            parts = data.random_split(range(samples), fractions)
            splits.append([samples, fractions, [len(part) for part in parts]])
    population = range(10)
    replacing = [
        [drawn, len(list(data.RandomSampler(population, replacement=True, num_samples=drawn)))] for drawn in [1, 7, 10, 25]
    ]
    replacing.append([None, len(list(data.RandomSampler(population, replacement=True)))])
    passing = [[drawn, len(list(data.RandomSampler(population, num_samples=drawn)))] for drawn in [1, 7, 10, 25]]
    weights = [1.0, 2.0, 0.0, 3.0, 0.5, 10.0]
    generator = torch.Generator().manual_seed(1)
    weighted = list(data.WeightedRandomSampler(weights, DRAWS, generator=generator))
    uniform = list(data.RandomSampler(population, replacement=True, num_samples=DRAWS, generator=generator))
    subset = [2, 3, 5, 7, 9]
    compositions = {
        "concat": len(data.ConcatDataset([range(3), range(5), range(2)])),
        "subset": len(data.Subset(range(10), subset)),
        "stack": len(data.StackDataset(range(4), range(4))),
    }
    return {
        "loader": grid,
        "random_split": splits,
        "with_replacement": replacing,
        "without_replacement": passing,
        "subset_random_sampler": subset,
        "subset_in_order": sorted(data.SubsetRandomSampler(subset)),
        "weights": weights,
        "weighted": np.bincount(weighted, minlength=len(weights)).tolist(),
        "uniform": np.bincount(uniform, minlength=len(population)).tolist(),
        "compositions": compositions,
    }


def names():
    """Every public name of the three modules that a user may look for."""
    of_v2 = [name for name, value in vars(v2).items() if inspect.isclass(value) or inspect.isfunction(value)]
    return {
        "torch.utils.data": sorted(name for name in data.__all__ if not name.startswith("_")),
        "torchvision.datasets": sorted(datasets.__all__),
        "torchvision.transforms.v2": sorted(name for name in of_v2 if not name.startswith("_")),
    }


def main():
    write_images()
    same_pixels = decode()
    transforms()
    report = {
        "versions": {"torch": torch.__version__.split("+")[0], "torchvision": torchvision.__version__.split("+")[0],
                     "pillow": PIL.__version__, "numpy": np.__version__},
        "same_pixels": same_pixels,
        "names": names(),
        "lengths": lengths(),
        "statistics": statistics(),
    }  # fmt: skip
    # One line for each entry of a part: to be read by a person, and compared by `git diff`.
    parts = []
    for part, entries in report.items():
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items())
        parts.append(f" {json.dumps(part)}: {{\n{lines}\n }}")
    (HERE / "torch.json").write_text("{\n" + ",\n".join(parts) + "\n}\n")
    total = sum(path.stat().st_size for path in HERE.rglob("*") if path.is_file())
    print(f"{total} bytes in all")


if __name__ == "__main__":
    main()
