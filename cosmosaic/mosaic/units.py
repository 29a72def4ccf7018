"""The units of work that make a mosaic of drizzled exposures: the planes of each tile, then the FITS file.

Each needs a fixed amount of memory: a tile, or a strip of the mosaic.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cosmosaic.astrometry.keywords import note_astrometry
from cosmosaic.drizzle.summary import read_summaries
from cosmosaic.mosaic.assembly import TileInput, combine, scale_ratio, write_mosaic, write_tile
from cosmosaic.mosaic.noise import note_noise_factor
from cosmosaic.records import MosaicGrid
from cosmosaic.steps.result import Made
from cosmosaic.survey import DrizzleSettings
from cosmosaic.verdict.keywords import note_verdict


def combine_tile(
    sums: Mapping[str, Path],
    patches: Mapping[str, Path],
    summaries: Mapping[str, Path],
    tile: MosaicGrid,
    settings: DrizzleSettings,
    input_scale_arcsec: float | None,
    folder: Path,
) -> Made:
    """Add the exposures of a tile.

    Parameters
    ----------
    sums, patches
        ``_sums.packed`` files, and ``_patch.npy`` files where outliers were flagged in the tile, by exposure.
    summaries
        ``_summary.npz`` files of the exposures.
    tile
        The tile.
    settings
        Weights and kind of errors.
    input_scale_arcsec
        Pixel scale of the detectors, by which ERR and variances are scaled, the same for the whole survey; by
        default that of the first exposure by name.
    folder
        Gets ``<tile>_mosaic.packed``.
    """
    known = read_summaries(summaries.values())
    output_scale = tile.pixel_scale_mas / 1000.0
    ratio = output_scale / input_scale_arcsec if input_scale_arcsec else scale_ratio(tile, known)
    files = {name: TileInput(path, patches.get(name)) for name, path in sums.items()}
    box, planes = combine(files, known, tile, settings, ratio)
    return Made(tile=write_tile(box, planes, folder / f"{tile.tile}_mosaic.packed"))


def assemble_mosaic(  # noqa: PLR0913
    tiles: Sequence[Path],
    summaries: Mapping[str, Path],
    first: Path,
    verdict: Path | None,
    astrometry: Path | None,
    window: MosaicGrid,
    settings: DrizzleSettings,
    product_name: str,
    folder: Path,
) -> Made:
    """Write a window of the mosaic as FITS.

    Parameters
    ----------
    tiles
        ``_mosaic.packed`` files of its tiles.
    summaries
        ``_summary.npz`` files of all its exposures.
    first
        The ``_cal`` file of the first, whose metadata the mosaic inherits.
    verdict
        The ``_verdict.ecsv`` on its sky, if its header should record it.
    astrometry
        The ``_astrometry.ecsv`` of the survey, likewise.
    window
        Window to write.
    settings
        Settings that it was made with.
    product_name
        Name of the mosaic without ``_i2d.fits``.
    folder
        Gets the mosaic (MJy/sr, NaN where nothing was observed).
    """
    target = folder / f"{product_name}_i2d.fits"
    write_mosaic(tiles, window, first, read_summaries(summaries.values()), settings, target)
    note_noise_factor(target)
    if verdict:
        note_verdict(target, verdict)
    if astrometry:
        note_astrometry(target, astrometry)
    return Made(mosaic=target)
