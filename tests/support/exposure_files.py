"""Minimal files of NIRCam exposures, as the archive names them."""

import io
from functools import cache
from pathlib import Path

import asdf
import numpy as np
from astropy.io import fits

from cosmosaic.geometry.wcs import grid_wcs
from cosmosaic.records import MosaicGrid

RA, DEC = 150.1, 2.2
SHAPES = {"uncal": (1, 2, 8, 10), "rate": (8, 10), "cal": (10, 10)}
UNITS = {"uncal": "DN", "rate": "DN/s", "cal": "MJy/sr"}
BEYOND_SCI = {"uncal": (), "rate": ("ERR", "DQ", "VAR_POISSON", "VAR_RNOISE")}
BEYOND_SCI["cal"] = (*BEYOND_SCI["rate"], "VAR_FLAT")


def region(ra: float, dec: float, side: float = 0.02) -> str:
    """Footprint of a square on the sky, side in degrees."""
    dra = side / 2 / np.cos(np.radians(dec))
    corners = ((ra - dra, dec - side / 2), (ra + dra, dec - side / 2), (ra + dra, dec + side / 2))
    words = [f"{number:.9f}" for corner in (*corners, (ra - dra, dec + side / 2)) for number in corner]
    return f"POLYGON ICRS  {' '.join(words)}"


@cache
def tree_hdu(ra: float = RA, dec: float = DEC, shape: tuple[int, int] = SHAPES["cal"]) -> fits.BinTableHDU:
    """ASDF extension with the WCS of a small calibrated exposure whose S_REGION is `region`."""
    scale_mas = 0.02 * 3.6e6 / max(SHAPES["cal"])
    middle = (SHAPES["cal"][1] / 2 - 0.5, SHAPES["cal"][0] / 2 - 0.5)
    grid = MosaicGrid(
        tangent_ra=ra, tangent_dec=dec, rotation=0.0, pixel_scale_mas=scale_mas, crpix=middle, shape=shape
    )
    return asdf_hdu({"meta": {"wcs": grid_wcs(grid)}})


def asdf_hdu(tree: dict[str, object]) -> fits.BinTableHDU:
    """The extension in which jwst keeps the metadata of a file."""
    stream = io.BytesIO()
    asdf.AsdfFile(tree).write_to(stream)
    content = np.frombuffer(stream.getvalue(), np.uint8)
    column = fits.Column("ASDF_METADATA", f"{len(content)}B", array=content[None])
    return fits.BinTableHDU.from_columns([column], name="ASDF")


def exposure_bytes(level: str = "uncal", ra: float = RA, dec: float = DEC, **cards: object) -> bytes:
    """A minimal NIRCam file; a card given as None is left out."""
    primary = {
        "TELESCOP": "JWST",
        "INSTRUME": "NIRCAM",
        "EXP_TYPE": "NRC_IMAGE",
        "DETECTOR": "NRCB1",
        "FILTER": "F115W",
        "PUPIL": "CLEAR",
        "SUBARRAY": "SUB640",
        "PROGRAM": "01727",
        "OBSERVTN": "001",
        "VISIT": "001",
        "VISITGRP": "02",
        "SEQ_ID": "1",
        "ACT_ID": "01",
        "EXPOSURE": "00001",
        "DATE-BEG": "2023-01-05T10:00:00.000",
        "EFFEXPTM": 311.4,
        "VISITSTA": "SUCCESSFUL",
        "PCS_MODE": "FINEGUIDE",
        "ENGQLPTG": "CALCULATED_TR_202105",
    }
    sci = {
        "BUNIT": UNITS[level],
        "CRVAL1": ra,
        "CRVAL2": dec,
        "RA_REF": ra,
        "DEC_REF": dec,
        "ROLL_REF": 20.0,
        "V2_REF": -100.9,
        "V3_REF": -479.6,
        "VPARITY": -1,
        "V3I_YANG": 0.34,
        "S_REGION": region(ra, dec),
    }
    for keyword, value in cards.items():
        keyword = keyword.replace("DATE_BEG", "DATE-BEG")
        (sci if keyword in sci else primary)[keyword] = value
    shape = SHAPES[level]
    dtype = np.uint16 if level == "uncal" else np.float32
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(np.ones(shape, dtype), name="SCI")]
    hdus += [fits.ImageHDU(np.ones(shape[-2:], np.float32), name=name) for name in BEYOND_SCI[level]]
    hdus += [tree_hdu(ra, dec)] if level == "cal" else []
    for header, values in ((hdus[0].header, primary), (hdus[1].header, sci)):
        header.update({keyword: value for keyword, value in values.items() if value is not None})
    stream = io.BytesIO()
    fits.HDUList(hdus).writeto(stream)
    return stream.getvalue()


def put(folder: Path, number: int = 1, level: str = "uncal", **cards: object) -> Path:
    """Write exposure ``number`` under its JWST name."""
    detector = str(cards.get("DETECTOR", "NRCB1")).lower()
    path = folder / f"jw01727001001_02101_{number:05d}_{detector}_{level}.fits"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(exposure_bytes(level, **{"EXPOSURE": f"{number:05d}", **cards}))  # type: ignore[arg-type]
    return path
