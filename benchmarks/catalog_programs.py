"""The programs that `benchmarks/catalog.py` compares: ours, source-extractor and jwst's step, on the same mosaics.

Each function returns a table for every detection: ours and source-extractor detect in all filters together (``all``),
jwst in each filter. Columns: ``ra``, ``dec``, ``snr``, and for each filter ``<filter>_<flux>`` with its error
``<filter>_<flux>_err`` in nJy, where ``<flux>`` is ``total``, ``kron`` or ``aperture`` (corrected to total for a star).
"""

import os
import pickle
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import psutil
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from numpy.typing import NDArray

from cosmosaic.calibrate.references import SIMULATED_CONTEXT
from cosmosaic.catalog.image import open_mosaics, read_mosaic
from cosmosaic.catalog.measure import measure_mosaics
from cosmosaic.catalog.psf import read_psf
from cosmosaic.injection.recovery import MEASURED
from cosmosaic.nircam import is_long_wavelength
from cosmosaic.processes.memory import peak_memory_mb
from cosmosaic.survey import CatalogSettings, FilterPair, SimulationSettings

ALL = "all"
APERTURE_ARCSEC = 0.3
"""Diameter of the apertures; jwst's encloses 70 % of a star's light instead."""
BACKGROUND_BOX_ARCSEC = 6.0
SEXTRACTOR = """
CATALOG_TYPE FITS_1.0
DETECT_MINAREA 5
THRESH_TYPE RELATIVE
DETECT_THRESH 1.5
ANALYSIS_THRESH 1.5
FILTER Y
DEBLEND_MINCONT 0.005
CLEAN Y
PHOT_AUTOPARAMS 2.5,3.5
GAIN 0
VERBOSE_TYPE QUIET
CHECKIMAGE_TYPE NONE
MEMORY_PIXSTACK 3000000
PARAMETERS_NAME default.param
FILTER_NAME default.conv
CATALOG_NAME out.fits
"""
KERNEL = "CONV NORM\n1 2 1\n2 4 2\n1 2 1\n"
PARAMETERS = ("X_IMAGE", "Y_IMAGE", "FLUX_AUTO", "FLUXERR_AUTO", "FLUX_APER", "FLUXERR_APER")
BAD_RMS = 1e30
SAMPLES_S = 0.02

Found = dict[str, Table]
"""Tables by detection."""
Made = tuple[Found, float, float]
"""Tables, CPU seconds, and largest memory in MB."""


@dataclass(frozen=True)
class Cost:
    """What a program took."""

    cpu_s: float
    peak_mb: float


def measured(program: str, mosaics: Mapping[str, Path], psfs: Mapping[str, Path], folder: Path) -> tuple[Found, Cost]:
    """Run a program in a process of its own, whose memory and CPU time are measured.

    Parameters
    ----------
    program
        ``ours``, ``sextractor`` or ``jwst``.
    mosaics, psfs
        ``_i2d`` and ``_psf`` files by filter.
    folder
        For files of the program; made if it does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    call, made = folder / "call.pickle", folder / "made.pickle"
    call.write_bytes(pickle.dumps((dict(mosaics), dict(psfs), folder)))
    # One thread, as in the flow's child processes: threads that wait for work count as CPU time.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, __file__, program, str(call), str(made)], env=environment, check=True)
    found, cpu_s, peak_mb = pickle.loads(made.read_bytes())
    return found, Cost(cpu_s, peak_mb)


def run_ours(mosaics: Mapping[str, Path], psfs: Mapping[str, Path], folder: Path) -> Made:
    """Make our catalogue."""
    opened = open_mosaics(mosaics)
    images = {band: read_psf(path, opened.scale_arcsec) for band, path in psfs.items()}
    start = time.process_time()
    catalog = measure_mosaics(opened, images, CatalogSettings(), folder)
    return our_tables(catalog.table), time.process_time() - start, peak_memory_mb()


def our_tables(catalog: Table) -> Found:
    """Take the columns that are compared out of a catalogue."""
    suffixes = {diameter: name for name, diameter in catalog.meta["aperture_diameters_arcsec"].items()}
    kinds = {"flux": "total", "kron_flux": "kron", f"aper_flux_{suffixes[APERTURE_ARCSEC]}": "aperture"}
    table = Table({name: numbers(catalog[name]) for name in ("ra", "dec", "ra_err", *MEASURED)})
    table["flags"], bands = np.asarray(catalog["flags"]), catalog.meta["bands"]
    common = numbers(catalog["total_factor_err"]) / numbers(catalog["total_factor"])
    for band in bands:
        for column, kind in kinds.items():
            head, mark, tail = column.partition("flux")
            table[f"{band}_{kind}"] = numbers(catalog[f"{band.lower()}_{column}"])
            table[f"{band}_{kind}_err"] = numbers(catalog[f"{band.lower()}_{head}{mark}_err{tail}"])
        table[f"{band}_flux_err"] = table[f"{band}_total_err"].copy()
        # That of a total flux has the error of the factor besides, which is the same in all filters.
        table[f"{band}_total_err"] = np.hypot(table[f"{band}_total_err"], common * table[f"{band}_total"])
    return {ALL: with_snr(table, bands)}


def with_snr(table: Table, bands: list[str]) -> Table:
    """Add the S/N in the sum of the filters, each by its apertures' error."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = [np.nan_to_num(table[f"{band}_aperture"] / table[f"{band}_aperture_err"]) for band in bands]
    table["snr"] = np.sum(ratios, axis=0) / np.sqrt(len(bands))
    return table


def numbers(column: Any) -> NDArray[np.float64]:
    """Return values of a column or a quantity; NaN where there is none."""
    return np.ma.filled(np.ma.asarray(getattr(column, "value", column), dtype=np.float64), np.nan)


def run_sextractor(mosaics: Mapping[str, Path], psfs: Mapping[str, Path], folder: Path) -> Made:
    """Run source-extractor in dual-image mode on the stack of all filters."""
    scale = _write_for_sextractor(mosaics, folder)
    table, peak_mb, before = Table(), 0.0, resource.getrusage(resource.RUSAGE_CHILDREN)
    for band in mosaics:
        command = ["source-extractor", f"stack.fits,{band}_sci.fits", "-c", "default.sex"]
        # By its own measure of the noise, which drizzled pixels share, most of its rows would be false.
        command += ["-WEIGHT_TYPE", "MAP_RMS,MAP_RMS", "-WEIGHT_IMAGE", f"stack_rms.fits,{band}_rms.fits"]
        command += ["-PHOT_APERTURES", str(APERTURE_ARCSEC / scale)]
        command += ["-BACK_SIZE", str(round(BACKGROUND_BOX_ARCSEC / scale))]
        peak_mb = max(peak_mb, _run_watched(command, folder))
        rows = Table.read(folder / "out.fits")
        wcs = WCS(fits.getheader(mosaics[band], "SCI"))
        table["ra"], table["dec"] = wcs.all_pix2world(rows["X_IMAGE"], rows["Y_IMAGE"], 1)
        light = float(read_psf(psfs[band], scale).within(APERTURE_ARCSEC / 2)[0])
        for kind, column, part in (("total", "AUTO", 1.0), ("kron", "AUTO", 1.0), ("aperture", "APER", light)):
            table[f"{band}_{kind}"] = numbers(rows[f"FLUX_{column}"]) / part
            table[f"{band}_{kind}_err"] = numbers(rows[f"FLUXERR_{column}"]) / part
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {ALL: with_snr(table, list(mosaics))}, cpu, peak_mb


def _run_watched(command: list[str], folder: Path) -> float:
    """Run a program; return the largest memory it had in MB.

    What the system tells of children at their end contains the memory of the process that started them.
    """
    peak_mb = 0.0
    with subprocess.Popen(command, cwd=folder) as process:
        while process.poll() is None:
            with suppress(psutil.Error):
                peak_mb = max(peak_mb, psutil.Process(process.pid).memory_info().rss / 2**20)
            time.sleep(SAMPLES_S)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed in {folder}")
    return peak_mb


def _write_for_sextractor(mosaics: Mapping[str, Path], folder: Path) -> float:
    """Write images and errors in nJy, the noise-equalised stack and settings; return the pixel scale in arcsec."""
    for name, text in (("sex", SEXTRACTOR), ("conv", KERNEL), ("param", "\n".join(PARAMETERS))):
        (folder / f"default.{name}").write_text(text)
    stack, covering, scale = 0.0, 0, 0.0
    for band, path in mosaics.items():
        image = read_mosaic(path)
        scale, factor = image.pixel_scale_arcsec, np.float32(image.to_njy)
        stack = stack + np.where(image.valid, image.sci * np.sqrt(np.where(image.valid, image.wht, 0.0)), 0.0)
        covering = covering + image.valid.astype(np.float32)
        for name, plane, gap in (("sci", image.sci, 0.0), ("rms", image.err, BAD_RMS)):
            values = np.where(image.valid, plane * factor, np.float32(gap))
            fits.writeto(folder / f"{band}_{name}.fits", values.astype(np.float32), overwrite=True)
    stack = np.asarray(stack / np.sqrt(np.maximum(covering, 1.0)), np.float32)
    fits.writeto(folder / "stack.fits", stack, overwrite=True)
    error = np.where(covering > 0, 1.0, BAD_RMS).astype(np.float32)
    fits.writeto(folder / "stack_rms.fits", error, overwrite=True)
    return scale


def run_jwst(mosaics: Mapping[str, Path], psfs: Mapping[str, Path], folder: Path) -> Made:
    """Run jwst's source_catalog step on each mosaic."""
    from cosmosaic.simulate.references import write_crds_cache

    pairs = tuple(FilterPair(short=short, long=long) for short, long in zip(*_channels(mosaics), strict=True))
    write_crds_cache(
        SimulationSettings(detectors=("NRCB1", "NRCBLONG"), subarray="SUB160", filter_pairs=pairs), folder / "crds"
    )
    os.environ |= {"CRDS_PATH": str(folder / "crds"), "CRDS_CONTEXT": SIMULATED_CONTEXT}
    os.environ |= {"STPIPE_DISABLE_CRDS_STEPPARS": "true", "CRDS_SERVER_URL": ""}
    # Imported here, so that the other programs' memory is without them.
    from jwst.source_catalog import SourceCatalogStep
    from stdatamodels.jwst.datamodels import ImageModel

    found, cpu = Found(), 0.0
    for band, path in mosaics.items():
        scale = read_mosaic(path, (slice(0, 1), slice(0, 1))).pixel_scale_arcsec
        psf, start = read_psf(psfs[band], scale), time.process_time()
        with ImageModel(path) as model:
            rows = SourceCatalogStep.call(
                model,
                save_results=False,
                kernel_fwhm=psf.fwhm_arcsec / scale,
                bkg_boxsize=round(BACKGROUND_BOX_ARCSEC / scale),
            )
        cpu += time.process_time() - start
        found[band] = _jwst_table(rows, band)
    return found, cpu, peak_memory_mb()


def _channels(mosaics: Mapping[str, Path]) -> tuple[list[str], list[str]]:
    short = [band for band in mosaics if not is_long_wavelength(band)]
    return short, [band for band in mosaics if band not in short]


def _jwst_table(rows: Table | None, band: str) -> Table:
    columns = ("total", "total_err", "aperture", "aperture_err")
    if rows is None:
        return Table({name: np.zeros(0) for name in ("ra", "dec", "snr", *(f"{band}_{column}" for column in columns))})
    flux, error = (numbers(rows[f"aper_total_flux{end}"]) * u.Jy.to(u.nJy) for end in ("", "_err"))
    table = Table({"ra": numbers(rows["sky_centroid"].ra), "dec": numbers(rows["sky_centroid"].dec)})
    for column, values in zip(columns, (flux, error, flux, error), strict=True):
        table[f"{band}_{column}"] = values
    return with_snr(table, [band])


PROGRAMS = {"ours": run_ours, "sextractor": run_sextractor, "jwst": run_jwst}

if __name__ == "__main__":
    Path(sys.argv[3]).write_bytes(pickle.dumps(PROGRAMS[sys.argv[1]](*pickle.loads(Path(sys.argv[2]).read_bytes()))))
