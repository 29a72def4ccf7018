"""Catalogues beside the truth of their survey, as the small tables that `benchmarks/catalog.py` keeps of each seed."""

import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.table import Table
from catalog_programs import ALL, APERTURE_ARCSEC, Found
from catalog_survey import FILTERS, Psfs, Survey, exposures_at, unsaturated
from numpy.typing import NDArray
from scipy.spatial import KDTree

from cosmosaic.catalog.apertures import circles, sum_apertures
from cosmosaic.catalog.detection import prepare
from cosmosaic.catalog.flags import CatalogFlag
from cosmosaic.catalog.image import read_mosaic
from cosmosaic.catalog.psf import Psf, read_psf
from cosmosaic.geometry.sphere import sky_to_plane
from cosmosaic.injection.sources import DEPTH_SIGMA, depth_at
from cosmosaic.survey import CatalogSettings

MATCH_ARCSEC = 0.2
"""Largest distance of a row from its source; of large galaxies `MATCH_RADII` half-light radii."""
MATCH_RADII = 0.2
ALONE_ARCSEC = 1.0
"""An isolated source has no brighter neighbour within this."""
RIM_ARCSEC = 1.0
"""Sources and rows nearer to the rim of all exposures of a filter do not count."""
STAR_ARCSEC = 2.0
"""Rows without a source within this of a bright star are its pieces."""
GALAXY_RADII = 1.5
"""Likewise within so many half-light radii of a galaxy."""
BLANK_APERTURES, BLANK_DRAWS = 8000, 240_000
BLANK_SNR = 0.1
"""On blank sky the wings of a star bring less than this part of the noise of an aperture."""
BLANK_RADII = 4.0
"""Half-light radii of galaxies that do not count as blank."""
RADII_STEP = 0.05

Floats = NDArray[np.float64]


def true_sources(survey: Survey, psfs: Psfs = "known") -> Table:
    """Return the sources that all filters cover, with S/N, exposures and isolation.

    ``snr_<FILTER>`` is that of a star of the source's flux in an aperture of 0.3 arcsec, by the map of depths at its
    place; ``snr_all`` that of the sum of the filters, each over its noise.
    """
    truth = survey.truth.copy()
    ra, dec = _sky(truth)
    truth["exposures"] = np.min([exposures_at(survey, band, ra, dec, RIM_ARCSEC) for band in FILTERS], axis=0)
    for band in FILTERS:
        light = float(_psf(survey, psfs, band).within(APERTURE_ARCSEC / 2)[0])
        truth[f"snr_{band}"] = light * truth[f"flux_{band}"] / aperture_noise(survey, psfs, band, ra, dec)
        truth[f"unsaturated_{band}"] = unsaturated(survey, band)
    truth[f"snr_{ALL}"] = np.sum([truth[f"snr_{band}"] for band in FILTERS], axis=0) / np.sqrt(len(FILTERS))
    light, places = _light(truth), _plane(survey, ra, dec)
    near = KDTree(places).query_ball_point(places, ALONE_ARCSEC)
    truth["isolated"] = [all(light[other] <= light[own] for other in others) for own, others in enumerate(near)]
    return truth[(np.asarray(truth["exposures"]) > 0) & np.isfinite(truth[f"snr_{ALL}"])]


def aperture_noise(survey: Survey, psfs: Psfs, band: str, ra: Floats, dec: Floats) -> Floats:
    """Noise of an aperture of 0.3 arcsec by the map of depths, nJy."""
    depth = depth_at(survey.product(psfs, band, "depth.fits"), np.stack([ra, dec], axis=1))
    return (depth * u.ABmag).to_value(u.nJy) / DEPTH_SIGMA


def match(survey: Survey, truth: Table, found: Found) -> tuple[Table, Table]:
    """Match a program's rows with the sources of a survey, the brightest first.

    Returns
    -------
    sources
        A row for each source: for each detection whether it was found (``found_<detection>``) and how many rows around
        it are no source (``pieces_<detection>``); the columns of its row otherwise, NaN where there is none.
    rows
        A row for each row of the catalogue: whether it is a source (``true``), its S/N, the least number of exposures
        of the filters at its place (``exposures``), and its flags.
    """
    every, covered = survey.truth, np.asarray(truth["id"]) - 1
    places = _plane(survey, *_sky(every))
    around = np.where(np.asarray(every["kind"]) == "star", STAR_ARCSEC, GALAXY_RADII * _radius(every))
    sources, rows = Table(), []
    for detection, table in found.items():
        table = table[np.isfinite(table["ra"]) & np.isfinite(table["dec"])]
        seen = _plane(survey, *_sky(table))
        row = nearest_free(places, _light(every), _reach(every), seen)
        alone = np.setdiff1d(np.arange(len(seen)), row)
        sources[f"found_{detection}"] = row[covered] >= 0
        sources[f"pieces_{detection}"] = _number_around(places, around, seen[alone])[covered]
        for name in table.colnames:
            if detection == ALL or name.startswith(detection):
                sources[name] = np.append(np.asarray(table[name], float), np.nan)[row[covered]]
        rows.append(_rows(survey, table, detection, _within(seen, places, _reach(every)) > 0))
    return sources, _stacked(rows)


def _light(truth: Table) -> Floats:
    return np.sum([truth[f"flux_{band}"] for band in FILTERS], axis=0)


def _reach(truth: Table) -> Floats:
    return np.maximum(MATCH_ARCSEC, MATCH_RADII * _radius(truth))


def nearest_free(places: Floats, light: Floats, reach: Floats, seen: Floats) -> NDArray[np.int64]:
    """Give each source the nearest row within its reach that no brighter source has; -1 for none."""
    row, taken = np.full(len(places), -1), np.zeros(len(seen), bool)
    if not len(seen):
        return row
    tree = KDTree(seen)
    for source in np.argsort(light)[::-1]:
        near = [one for one in tree.query_ball_point(places[source], reach[source]) if not taken[one]]
        if near:
            row[source] = near[int(np.argmin(np.hypot(*(seen[near] - places[source]).T)))]
            taken[row[source]] = True
    return row


def _number_around(places: Floats, reach: Floats, others: Floats) -> NDArray[np.int64]:
    """Count the others within the reach of each place."""
    if not len(others):
        return np.zeros(len(places), np.int64)
    return KDTree(others).query_ball_point(places, reach, return_length=True)


def _within(places: Floats, others: Floats, reach: Floats) -> NDArray[np.int64]:
    """Count the others within whose reach each place is."""
    count = np.zeros(len(places), np.int64)
    if len(places):
        for near in KDTree(places).query_ball_point(others, reach):
            count[near] += 1
    return count


def _rows(survey: Survey, table: Table, detection: str, is_true: NDArray[np.bool_]) -> Table:
    bands = FILTERS if detection == ALL else (detection,)
    ra, dec = _sky(table)
    inner = np.min([exposures_at(survey, band, ra, dec, RIM_ARCSEC) for band in FILTERS], axis=0)
    counts = [exposures_at(survey, band, ra, dec) for band in bands]
    rows = Table({"true": is_true, "snr": np.asarray(table["snr"])})
    rows["exposures"] = np.min(counts, axis=0)
    rows["flags"] = np.asarray(table["flags"]) if "flags" in table.colnames else np.zeros(len(table), np.int64)
    rows["single_flag"] = (rows["flags"] & CatalogFlag.SINGLE_EXPOSURE.value) > 0
    rows["sharp_flag"] = (rows["flags"] & CatalogFlag.SHARP.value) > 0
    return rows[inner > 0]


def _stacked(tables: list[Table]) -> Table:
    return Table({name: np.concatenate([np.asarray(one[name]) for one in tables]) for name in tables[0].colnames})


def blank_apertures(survey: Survey) -> Table:
    """Measure apertures of 0.3 arcsec where the truth has no light, in sigma of the map of depths.

    Returns
    -------
    apertures
        Columns ``filter``, ``pull``; sky is what the catalogue takes for it.
    """
    tables = []
    for number, band in enumerate(FILTERS):
        prepared = prepare(read_mosaic(survey.mosaics()[band]), CatalogSettings().background_box_arcsec)
        image, random = prepared.image, np.random.default_rng([survey.simulation.seed, number])
        rim = image.pixels(APERTURE_ARCSEC)
        drawn = random.uniform(rim, np.array(image.sci.shape[::-1]) - 1 - rim, (BLANK_DRAWS, 2))
        ra, dec = image.wcs.all_pix2world(*drawn.T, 0)
        clear = (exposures_at(survey, band, ra, dec, RIM_ARCSEC) > 0) & _is_blank(survey, band, ra, dec)
        places, ra, dec = (each[clear][:BLANK_APERTURES] for each in (drawn, ra, dec))
        apertures = circles(*places.T, image.pixels(APERTURE_ARCSEC / 2))
        sums = sum_apertures(prepared.residual, image.err, image.valid, apertures)
        pull = sums.flux * image.to_njy / aperture_noise(survey, "known", band, ra, dec)
        pull = pull[np.isfinite(pull) & (sums.missing == 0)]
        tables.append(Table({"filter": np.full(len(pull), band), "pull": pull}))
    return _stacked(tables)


def _is_blank(survey: Survey, band: str, ra: Floats, dec: Floats) -> NDArray[np.bool_]:
    """Find places where no source brings more than `BLANK_SNR` of the noise of an aperture."""
    psf, truth = _psf(survey, "known", band), survey.truth
    radii = np.linspace(RADII_STEP, psf.reach_arcsec - RADII_STEP, 60)
    # Light of a star in an aperture at each distance, the mean over the angle.
    around = np.gradient(psf.within(radii), radii) / (2.0 * np.pi * radii) * np.pi * (APERTURE_ARCSEC / 2) ** 2
    noise = np.nanmedian(aperture_noise(survey, "known", band, *_sky(truth)))
    matters = np.asarray(truth[f"flux_{band}"])[:, None] / noise * around > BLANK_SNR
    farthest = np.where(matters.any(axis=1), radii[len(radii) - 1 - np.argmax(matters[:, ::-1], axis=1)], 0.0)
    reach = farthest + APERTURE_ARCSEC + BLANK_RADII * _radius(truth)
    return _within(_plane(survey, ra, dec), _plane(survey, *_sky(truth)), reach) == 0


def _psf(survey: Survey, psfs: Psfs, band: str) -> Psf:
    path = survey.product(psfs, band, "psf.fits")
    return read_psf(path, float(fits.getheader(path)["PIXSCALE"]))


def _sky(table: Table) -> tuple[Floats, Floats]:
    return np.asarray(table["ra"], float), np.asarray(table["dec"], float)


def _radius(truth: Table) -> Floats:
    """Half-light radii in arcsec, 0 of stars."""
    return np.nan_to_num(np.asarray(truth["half_light_radius"], float))


def _plane(survey: Survey, ra: Floats, dec: Floats) -> Floats:
    """Positions in arcsec in the tangent plane of the pointing."""
    pointing = survey.simulation.pointings[0]
    return sky_to_plane((pointing.ra, pointing.dec), np.stack([ra, dec], axis=1)) if len(ra) else np.zeros((0, 2))
