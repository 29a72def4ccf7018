"""A CRDS cache for the simulated detectors, complete for Stage 1 to Stage 3 and without a server."""

import gzip
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asdf
import numpy as np
from astropy.io import fits
from astropy.modeling import models
from astropy.modeling.core import Model
from astropy.table import Table
from crds.core.rmap import Mapping as CrdsMapping
from numpy.polynomial import polynomial
from numpy.typing import NDArray

from cosmosaic.geometry.siaf import aperture_name
from cosmosaic.nircam import DETECTOR_PIXELS, DICHROIC_UM, PASSBANDS, is_long_wavelength_detector, wheels_of
from cosmosaic.provenance import order_asdf_history
from cosmosaic.simulate.geometry import (
    ARCSEC_PER_RADIAN,
    SR_PER_ARCSEC2,
    DetectorGeometry,
    detector_geometry,
    pixel_area_sr,
    subarray_window,
)
from cosmosaic.simulate.instrument import (
    READOUT_PATTERNS,
    DetectorMaps,
    Window,
    detector_maps,
    flux_conversion,
    group_mid_times,
    scan_directions,
)
from cosmosaic.simulate.plan import PlannedExposure, plan_exposures
from cosmosaic.simulate.psf import encircled_energy
from cosmosaic.survey import SimulationSettings

CRDS_CONTEXT = "jwst_0001.pmap"
"""The only context of a simulated survey's cache."""

UNUSED_TYPES = (
    *("bkg", "camera", "chromcorr", "collimator", "dflat", "disperser", "emicorr", "fflat", "fore", "fpa"),
    *("ifufore", "ifupost", "ifuslicer", "ipc", "msa", "ote", "pastasoss", "pictureframe", "refpix", "regions"),
    *("reset", "rscd", "sflat", "sirskernel", "specwcs", "wavelengthrange"),
    *("pars-detector1pipeline", "pars-image2pipeline", "pars-image3pipeline"),
    *("pars-assignmtwcsstep", "pars-assignwcsstep", "pars-backgroundstep", "pars-chargemigrationstep"),
    *("pars-cleanflickernoisestep", "pars-darkcurrentstep", "pars-dqinitstep", "pars-emicorrstep"),
    *("pars-firstframestep", "pars-flatfieldstep", "pars-gainscalestep", "pars-groupscalestep", "pars-ipcstep"),
    *("pars-jumpstep", "pars-lastframestep", "pars-linearitystep", "pars-outlierdetectionstep"),
    *("pars-persistencestep", "pars-photomstep", "pars-pictureframestep", "pars-rampfitstep", "pars-refpixstep"),
    *("pars-resamplestep", "pars-resetstep", "pars-rscdstep", "pars-saturationstep", "pars-skymatchstep"),
    *("pars-sourcecatalogstep", "pars-superbiasstep", "pars-tweakregstep"),
)
"""Reference types that the pipelines ask for and that simulated exposures do not need; CRDS refuses unknown types."""

_USE_AFTER = "2020-01-01T00:00:00"
_GZIP_ABOVE_BYTES = 8_000_000
_INVERSE_DEGREE = 8
_DETECTOR = "META.INSTRUMENT.DETECTOR"
_SUBARRAY = "META.SUBARRAY.NAME"
_EXPOSURE_TYPE = "META.EXPOSURE.TYPE"


@dataclass(frozen=True)
class _ReferenceFile:
    """A reference file, and the data it applies to."""

    kind: str
    name: str
    parameters: tuple[str, ...]
    values: tuple[str, ...]
    content: bytes


def write_crds_cache(settings: SimulationSettings, folder: Path) -> None:
    """Write a serverless CRDS cache for the detectors, filters and subarray of a simulated survey.

    ``CRDS_PATH=<folder> CRDS_CONTEXT=jwst_0001.pmap`` points the jwst package at it, from Stage 1 to Stage 3. Files
    for a subarray have its own shape, since reading full frames to cut them dominates Stage 1 of a subarray. Equal
    settings give equal bytes.

    Parameters
    ----------
    settings
        The simulated survey.
    folder
        The cache; made if it does not exist.
    """
    exposures = plan_exposures(settings)
    first = {exposure.detector: exposure for exposure in reversed(exposures)}
    filters = sorted({exposure.band for exposure in exposures})
    files = [file for detector in sorted(first) for file in _detector_files(first[detector], filters, settings)]
    files += _instrument_files(filters)
    references = folder / "references/jwst/nircam"
    references.mkdir(parents=True, exist_ok=True)
    for file in files:
        (references / file.name).write_bytes(file.content)
    _write_mappings(files, folder / "mappings/jwst")
    _write_configuration(folder / "config/jwst")


def distortion_model(detector: str) -> Model:
    """Pixels of the full frame, 0-based, to (V2, V3) in arcsec, with its inverse.

    Forward it is SIAF's polynomial; SIAF's own inverse is off by up to 0.13 pixels, so the inverse is fitted.
    """
    geometry = detector_geometry(detector)
    forward = _about(geometry.x_reference, geometry.y_reference, geometry.v2, geometry.v3)
    forward.inverse = _fitted_inverse(geometry)
    return forward


def nominal_pixel_area_arcsec2(detector: str) -> float:
    """Solid angle of the detector's reference pixel in square arcseconds, PIXAR_A2."""
    geometry = detector_geometry(detector)
    matrix = [[component[1, 0], component[0, 1]] for component in (geometry.v2, geometry.v3)]
    return float(abs(np.linalg.det(matrix)) * np.cos(geometry.v3[0, 0] / ARCSEC_PER_RADIAN))


def pixel_area_map(exposure: PlannedExposure) -> NDArray[np.float32]:
    """Solid angle of each pixel in units of the nominal one, to 1e-5, with the exposure's shape (ny, nx)."""
    nominal = nominal_pixel_area_arcsec2(exposure.detector) * SR_PER_ARCSEC2
    # In steps of 2**-16 the map compresses well.
    return np.ascontiguousarray(np.round(pixel_area_sr(exposure) / nominal * 2**16) / 2**16, dtype=np.float32)


def _fitted_inverse(geometry: DetectorGeometry) -> Model:
    """Least-squares polynomial from (V2, V3) back to pixels, over the full frame."""
    nodes = np.linspace(-0.5, DETECTOR_PIXELS - 0.5, 33)
    dx, dy = np.meshgrid(nodes - geometry.x_reference, nodes - geometry.y_reference)
    v2_0, v3_0 = geometry.v2[0, 0], geometry.v3[0, 0]
    v2 = polynomial.polyval2d(dx, dy, geometry.v2).ravel() - v2_0
    v3 = polynomial.polyval2d(dx, dy, geometry.v3).ravel() - v3_0
    scale = float(np.abs([v2, v3]).max())
    powers = [(i, j) for i in range(_INVERSE_DEGREE + 1) for j in range(_INVERSE_DEGREE + 1 - i)]
    design = np.stack([(v2 / scale) ** i * (v3 / scale) ** j for i, j in powers], axis=1)
    inverse = np.zeros((2, _INVERSE_DEGREE + 1, _INVERSE_DEGREE + 1))
    for axis, values in enumerate((dx + geometry.x_reference, dy + geometry.y_reference)):
        fitted = np.linalg.lstsq(design, values.ravel(), rcond=None)[0]
        for (i, j), coefficient in zip(powers, fitted, strict=True):
            inverse[axis, i, j] = coefficient / scale ** (i + j)
    return _about(v2_0, v3_0, *inverse)


def _about(x: float, y: float, first: NDArray[np.floating], second: NDArray[np.floating]) -> Model:
    """Two polynomials in offsets from a point; coefficients ``c[i, j]`` of ``dx**i * dy**j``."""
    polynomials = [
        models.Polynomial2D(
            len(c) - 1, **{f"c{i}_{j}": float(c[i, j]) for i in range(len(c)) for j in range(len(c) - i)}
        )
        for c in (first, second)
    ]
    shift = models.Shift(-float(x)) & models.Shift(-float(y))
    return shift | models.Mapping((0, 1, 0, 1)) | (polynomials[0] & polynomials[1])


def _detector_files(
    exposure: PlannedExposure, filters: Sequence[str], settings: SimulationSettings
) -> list[_ReferenceFile]:
    """All reference files of one detector."""
    detector, window = exposure.detector, subarray_window(exposure.aperture)
    maps = detector_maps(detector, window)
    images = _pixel_references(maps, settings)
    header = _header(detector) | _readout_keywords(exposure, window, settings)
    cut = [
        _ReferenceFile(
            kind,
            f"simulated_nircam_{detector.lower()}_{exposure.subarray.lower()}_{kind}.fits",
            (_DETECTOR, _SUBARRAY),
            (detector, exposure.subarray),
            _fits_bytes(header | {"REFTYPE": kind.upper()}, images[kind]),
        )
        for kind in sorted(images)
    ]
    whole = {
        "area": _area_reference(exposure),
        "photom": _photom_reference(detector, filters),
        "distortion": _distortion_reference(detector),
    }
    return cut + [
        _ReferenceFile(
            kind,
            f"simulated_nircam_{detector.lower()}_{kind}.{'asdf' if kind == 'distortion' else 'fits'}",
            (_DETECTOR,),
            (detector,),
            content,
        )
        for kind, content in whole.items()
    ]


def _pixel_references(maps: DetectorMaps, settings: SimulationSettings) -> dict[str, list[fits.ImageHDU]]:
    """Extensions of the reference files that have a value per pixel."""
    times = group_mid_times(settings)
    dark = fits.ImageHDU((times[:, None, None] * maps.dark_rate).astype(np.float32), name="SCI")
    # jwst would make up three-dimensional flags for references with planes.
    dq = fits.ImageHDU(np.zeros_like(maps.dq), name="DQ")
    coefficients = np.stack([np.zeros_like(maps.gain), np.ones_like(maps.gain), maps.quadratic, maps.cubic])
    return {
        "mask": [fits.ImageHDU(maps.dq, name="DQ")],
        "saturation": [fits.ImageHDU(maps.saturation, name="SCI")],
        "superbias": [fits.ImageHDU(maps.superbias, name="SCI")],
        "linearity": [fits.ImageHDU(coefficients, name="COEFFS"), dq],
        "dark": [dark, dq],
        # jwst expects the noise of the difference of two reads.
        "readnoise": [fits.ImageHDU(maps.read_noise * np.float32(np.sqrt(2)), name="SCI")],
        "gain": [fits.ImageHDU(maps.gain, name="SCI")],
        "flat": [fits.ImageHDU(maps.flat, name="SCI"), fits.ImageHDU(maps.flat_dq, name="DQ")],
    }


def _area_reference(exposure: PlannedExposure) -> bytes:
    # The photom step itself cuts the subarray out of the full frame.
    full = exposure.model_copy(update={"aperture": aperture_name(exposure.detector, "FULL"), "subarray": "FULL"})
    area = nominal_pixel_area_arcsec2(exposure.detector)
    header = _header(exposure.detector) | {"REFTYPE": "AREA", "PIXAR_SR": area * SR_PER_ARCSEC2, "PIXAR_A2": area}
    return _fits_bytes(header, [fits.ImageHDU(pixel_area_map(full), name="SCI")])


def _photom_reference(detector: str, filters: Sequence[str]) -> bytes:
    area = nominal_pixel_area_arcsec2(detector)
    rows = [(*wheels_of(name), flux_conversion(detector, name), 0.0) for name in filters]
    table = np.array(rows, dtype=[("filter", "S12"), ("pupil", "S12"), ("photmjsr", "f4"), ("uncertainty", "f4")])
    header = _header(detector) | {
        "REFTYPE": "PHOTOM",
        "EXP_TYPE": "NRC_IMAGE",
        "DATAMODL": "NrcImgPhotomModel",
        "PIXAR_SR": area * SR_PER_ARCSEC2,
        "PIXAR_A2": area,
    }
    return _fits_bytes(header, [fits.BinTableHDU(table, name="PHOTOM")])


def _distortion_reference(detector: str) -> bytes:
    channel = "LONG" if is_long_wavelength_detector(detector) else "SHORT"
    meta = _asdf_meta("distortion", "DistortionModel")
    meta["instrument"].update(detector=detector, module=detector[3], channel=channel, pupil="CLEAR", p_pupil="CLEAR|")
    meta.update(input_units="pixel", output_units="arcsec", exposure={"type": "NRC_IMAGE", "p_exptype": "NRC_IMAGE|"})
    return _asdf_bytes({"meta": meta, "model": distortion_model(detector)})


def _instrument_files(filters: Sequence[str]) -> list[_ReferenceFile]:
    """Reference files that all detectors share."""
    wheels = [wheels_of(name) for name in filters]
    offsets = [{"filter": name, "pupil": pupil, "row_offset": 0.0, "column_offset": 0.0} for name, pupil in wheels]
    filteroffset = {"meta": _asdf_meta("filteroffset", "FilteroffsetModel"), "filters": offsets}
    zero_points = Table(
        {
            "filter": [name for name, _ in wheels],
            "pupil": [pupil for _, pupil in wheels],
            "abvega_offset": [0.0] * len(filters),
        }
    )
    abvega = {"meta": _asdf_meta("abvegaoffset", "ABVegaOffsetModel"), "abvega_offset": zero_points}
    contents = {
        "filteroffset.asdf": _asdf_bytes(filteroffset),
        "abvegaoffset.asdf": _asdf_bytes(abvega),
        "apcorr.fits": _aperture_reference(filters),
    }
    return [
        _ReferenceFile(name.split(".")[0], f"simulated_nircam_{name}", (_EXPOSURE_TYPE,), ("NRC_IMAGE",), content)
        for name, content in contents.items()
    ]


def _aperture_reference(filters: Sequence[str]) -> bytes:
    """Radii in native pixels that enclose a tenth to nine tenths of a point source's light."""
    radii = np.geomspace(0.01, 1.5, 16)
    fractions = np.arange(1, 10) / 10
    rows = []
    for name in filters:
        pixel_arcsec = _native_pixel_arcsec(name)
        enclosing = np.interp(fractions, encircled_energy(name, radii, pixel_arcsec), radii) / pixel_arcsec
        wheels = wheels_of(name)
        rows += [(*wheels, f, radius, 1 / f, 40.0, 50.0) for f, radius in zip(fractions, enclosing, strict=True)]
    dtype = [("filter", "S12"), ("pupil", "S15")]
    dtype += [(column, "f4") for column in ("eefraction", "radius", "apcorr", "skyin", "skyout")]
    header = _header("N/A") | {"REFTYPE": "APCORR", "EXP_TYPE": "NRC_IMAGE", "DATAMODL": "NrcImgApcorrModel"}
    return _fits_bytes(header, [fits.BinTableHDU(np.array(rows, dtype=dtype), name="APCORR")])


def _native_pixel_arcsec(filter_name: str) -> float:
    long = PASSBANDS[filter_name].pivot_um > DICHROIC_UM
    return float(np.sqrt(nominal_pixel_area_arcsec2("NRCBLONG" if long else "NRCB1")))


def _header(detector: str) -> dict[str, Any]:
    return {
        "TELESCOP": "JWST",
        "INSTRUME": "NIRCAM",
        "DETECTOR": detector,
        "PEDIGREE": "DUMMY",
        "AUTHOR": "cosmosaic",
        "DESCRIP": "Simulated detector",
        "USEAFTER": _USE_AFTER,
    }


def _readout_keywords(exposure: PlannedExposure, window: Window, settings: SimulationSettings) -> dict[str, Any]:
    pattern = READOUT_PATTERNS[settings.readout_pattern]
    fast, slow = scan_directions(exposure.detector)
    return {
        "SUBARRAY": exposure.subarray,
        "SUBSTRT1": window.xstart,
        "SUBSTRT2": window.ystart,
        "SUBSIZE1": window.nx,
        "SUBSIZE2": window.ny,
        "FASTAXIS": fast,
        "SLOWAXIS": slow,
        "READPATT": settings.readout_pattern,
        "NFRAMES": pattern.nframes,
        "GROUPGAP": pattern.groupgap,
        "NGROUPS": settings.groups,
    }


def _asdf_meta(kind: str, model: str) -> dict[str, Any]:
    return {
        "telescope": "JWST",
        "instrument": {"name": "NIRCAM"},
        "reftype": kind,
        "model_type": model,
        "pedigree": "DUMMY",
        "author": "cosmosaic",
        "description": "Simulated detector",
        "useafter": _USE_AFTER,
    }


def _fits_bytes(header: dict[str, Any], extensions: Sequence[fits.hdu.base.ExtensionHDU]) -> bytes:
    """A FITS file; large ones compressed, which `astropy.io.fits` detects when it reads them."""
    primary = fits.PrimaryHDU()
    primary.header.update(header)
    buffer = io.BytesIO()
    fits.HDUList([primary, *extensions]).writeto(buffer)
    content = buffer.getvalue()
    return gzip.compress(content, 6, mtime=0) if len(content) > _GZIP_ABOVE_BYTES else content


def _asdf_bytes(tree: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    asdf.AsdfFile(tree).write_to(buffer)
    return order_asdf_history(buffer.getvalue())


def _write_mappings(files: Sequence[_ReferenceFile], folder: Path) -> None:
    """Write CRDS's rules: one context, one instrument, a rule file per reference type."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds: dict[str, str] = dict.fromkeys(UNUSED_TYPES, "N/A")
    for kind in sorted({file.kind for file in files}):
        name = f"jwst_nircam_{kind}_0001.rmap"
        _write_rmap(kind, [file for file in files if file.kind == kind], folder / name)
        kinds[kind] = name
    header = {"derived_from": "simulated", "instrument": "nircam", "observatory": "jwst", "parkey": ("REFTYPE",)}
    _write_mapping(
        header | {"mapping": "INSTRUMENT"}, repr(dict(sorted(kinds.items()))), folder / "jwst_nircam_0001.imap"
    )
    header = {"derived_from": "simulated", "observatory": "jwst", "parkey": ("META.INSTRUMENT.NAME",)}
    _write_mapping(header | {"mapping": "PIPELINE"}, repr({"nircam": "jwst_nircam_0001.imap"}), folder / CRDS_CONTEXT)


def _write_rmap(kind: str, files: Sequence[_ReferenceFile], path: Path) -> None:
    header = {
        "classes": ("Match", "UseAfter"),
        "derived_from": "simulated",
        "filekind": kind,
        "instrument": "nircam",
        "mapping": "REFERENCE",
        "observatory": "jwst",
        "parkey": (files[0].parameters, ("META.OBSERVATION.DATE", "META.OBSERVATION.TIME")),
    }
    date = _USE_AFTER.replace("T", " ")
    rules = "\n".join(f"    {file.values!r}: UseAfter({{{date!r}: {file.name!r}}})," for file in files)
    _write_mapping(header, f"Match({{\n{rules}\n}})", path)


def _write_mapping(header: dict[str, Any], selector: str, path: Path) -> None:
    entries = "\n".join(f"    {key!r}: {value!r}," for key, value in sorted({"name": path.name, **header}.items()))
    path.write_text(f"header = {{\n{entries}\n    'sha1sum': '0',\n}}\n\nselector = {selector}\n")
    CrdsMapping.from_file(str(path), ignore_checksum=True).write(str(path))


def _write_configuration(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    server = {
        "observatory": "jwst",
        "bad_files": "",
        "bad_files_list": [],
        "latest_context": CRDS_CONTEXT,
        "operational_context": CRDS_CONTEXT,
        "edit_context": CRDS_CONTEXT,
        "crds_version": {"str": "14"},
        "force_remote_mode": False,
        "last_synced": "never",
        "mappings": [],
    }
    (folder / "server_config").write_text(repr(server) + "\n")
    (folder / "ref_cache_subdir_mode").write_text("instrument\n")
