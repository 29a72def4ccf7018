"""What the two kinds of errors of a mosaic mean, against the scatter of many noise realisations.

    python benchmarks/errors.py

Exposures of pure noise of known sigma are drizzled at one and at four dithers. Printed is the scatter of single mosaic
pixels, and of sums over blocks of 8 x 8, over what the errors (added in quadrature) say: 1 is right.
"""

import numpy as np
from scipy.ndimage import binary_erosion

from cosmosaic.drizzle.kernel import READ_NOISE, SCIENCE, WEIGHT, Drop, Light, drizzle_square
from cosmosaic.geometry.pixelmap import BLOCK_PIXELS

SIDE = 96
BLOCK = 8
REALISATIONS = 200
SCALES = {"short wavelength, 30 mas": 31.0 / 30.0, "long wavelength, 30 mas": 63.0 / 30.0}
DITHERS = np.array([(0.0, 0.0), (0.37, 0.61), (0.81, 0.18), (0.49, 0.93)])
"""In detector pixels."""
TURN = np.radians(20.0)


def added(frames: list[np.ndarray], scale: float, width: int) -> np.ndarray:
    """Drizzle exposures of unit noise and add them."""
    rows, columns = np.indices((SIDE, SIDE), dtype=float)
    ones = np.ones((SIDE, SIDE), dtype=np.float32)
    sums = np.zeros((width, width, 5), dtype=np.float32)
    everywhere = np.full((-(-SIDE // BLOCK_PIXELS),) * 2, True)
    for frame, (dx, dy) in zip(frames, scale * DITHERS, strict=False):
        x = scale * (np.cos(TURN) * columns - np.sin(TURN) * (rows - SIDE)) + 4 + dx
        y = scale * (np.sin(TURN) * columns + np.cos(TURN) * rows) + 4 + dy
        drop = Drop(1.0, 1.5 * max(1.0, scale), propagated=True)
        drizzle_square(Light(frame, ones, ones, ones, ones), (x, y), drop, everywhere, (0, 0), sums)
    return sums


def blocks(image: np.ndarray) -> np.ndarray:
    """Sum over blocks."""
    n = image.shape[0] // BLOCK
    return image[: n * BLOCK, : n * BLOCK].reshape(n, BLOCK, n, BLOCK).sum(axis=(1, 3))


def compare(scale: float, depth: int) -> dict[str, tuple[float, float]]:
    """Return, for both kinds of errors, the scatter of pixels and of blocks over what they say."""
    generator = np.random.default_rng(3)
    width = int(1.35 * SIDE * scale) + 10
    sums = added([np.ones((SIDE, SIDE), np.float32)] * depth, scale, width)
    weight = np.maximum(sums[..., WEIGHT], 1e-9)
    inner = binary_erosion(weight > 0.75 * np.median(weight[weight > 1e-6]), iterations=6)
    images = []
    for _ in range(REALISATIONS):
        noise = [generator.normal(size=(SIDE, SIDE)).astype(np.float32) for _ in range(depth)]
        images.append(np.where(inner, added(noise, scale, width)[..., SCIENCE] / weight, 0.0))
    whole = blocks(inner) == BLOCK**2
    pixels, summed = np.std(images, axis=0), np.std([blocks(image) for image in images], axis=0)
    kinds = {
        "propagated": np.sqrt(sums[..., READ_NOISE]) / weight,
        "jwst": np.full_like(weight, scale / np.sqrt(depth)),
    }
    return {
        name: (
            float(np.median(pixels[inner] / error[inner])),
            float(np.median(summed[whole] / np.sqrt(blocks(error**2))[whole])),
        )
        for name, error in kinds.items()
    }


def main() -> None:
    """Print the table."""
    for name, scale in SCALES.items():
        for depth in (1, len(DITHERS)):
            for kind, (single, block) in compare(scale, depth).items():
                print(f"{name}, depth {depth}, {kind}: pixels {single:.3f}, blocks {block:.3f}")


if __name__ == "__main__":
    main()
