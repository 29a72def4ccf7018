"""Reference files as the compiled functions need them, cut and prepared as the jwst package's steps do."""

import gzip
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from jwst.ipc.ipc_corr import get_ipc_slice, get_num_ref_pixels
from jwst.lib.reffile_utils import get_subarray_model, ref_matches_sci
from numpy.typing import NDArray
from stcal.dark_current.dark_class import DarkData
from stcal.dark_current.dark_sub import average_dark_frames_3d, extrapolate_dark
from stdatamodels.jwst import datamodels
from stdatamodels.jwst.datamodels.dqflags import pixel

from cosmosaic.calibrate.fused.compiled import Image, Mask, PixelFlags
from cosmosaic.calibrate.fused.linearity import Coefficients, prepared
from cosmosaic.calibrate.fused.saturation import CONVERTER_LIMIT_DN

NOT_APPLICABLE = "N/A"
GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Saturation:
    """Thresholds of saturation."""

    threshold: Image
    unchecked: Mask
    dq: PixelFlags


@dataclass(frozen=True)
class Bias:
    """The superbias."""

    image: Image
    """As in the file, NaN included."""
    dq: PixelFlags


@dataclass(frozen=True)
class Ipc:
    """Coupling of pixels."""

    kernel: Image
    borders: tuple[int, int, int, int]


@dataclass(frozen=True)
class Linearity:
    """Polynomials."""

    coefficients: Coefficients
    inverse: Coefficients | None
    dq: PixelFlags


@dataclass(frozen=True)
class Dark:
    """Dark current."""

    groups: Iterable[NDArray[np.floating]] | None
    """DN, a plane for each group; None if the file does not fit the readout pattern."""
    dq: PixelFlags
    mean: Image | None
    """Electrons per second."""


@dataclass(frozen=True)
class DarkPlanes:
    """The first planes of a dark that was read out as the exposure was: they are read one by one, as they are used."""

    path: str
    number: int

    def __iter__(self) -> Iterator[Image]:
        with _hdus(self.path) as hdus:
            for group in range(self.number):
                plane = _floats(hdus["SCI"].section[group])
                plane[np.isnan(plane)] = 0
                yield plane


@dataclass(frozen=True)
class DetectorReferences:
    """All reference files of one exposure; None stands for those that do not apply."""

    mask: PixelFlags | None
    saturation: Saturation | None
    bias: Bias | None
    ipc: Ipc | None
    linearity: Linearity | None
    dark: Dark | None
    gain: Image
    read_noise: Image
    gain_factor: float | None


def read_references(exposure: Any, paths: dict[str, str]) -> DetectorReferences:
    """Read the reference files of an exposure.

    Parameters
    ----------
    exposure
        `jwst.datamodels.RampModel`, not changed.
    paths
        Path of each type that the steps ask for; ``N/A`` where there is none.
    """
    gain, gain_factor = _read_gain(exposure, paths["gain"])
    with _opened(datamodels.ReadnoiseModel, paths["readnoise"]) as model:
        read_noise = _floats(_matching(exposure, model).data)
    return DetectorReferences(
        mask=_read_mask(exposure, paths["mask"]),
        saturation=_read_saturation(exposure, paths["saturation"]),
        bias=_read_bias(exposure, paths["superbias"]),
        ipc=_read_ipc(exposure, paths["ipc"]),
        linearity=_read_linearity(exposure, paths["linearity"]),
        dark=_read_dark(exposure, paths["dark"]),
        gain=gain,
        read_noise=read_noise,
        gain_factor=gain_factor,
    )


@contextmanager
def _hdus(path: str) -> Iterator[fits.HDUList]:
    """Open a FITS file; a compressed one is expanded once, not again for each step back of the reader."""
    with Path(path).open("rb") as stream:
        is_compressed = stream.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    opened = BytesIO(gzip.decompress(Path(path).read_bytes())) if is_compressed else path
    # Not mapped: the planes of a dark that were read would stay in memory until the last is.
    with fits.open(opened, memmap=False) as hdus:
        yield hdus


@contextmanager
def _opened(kind: type[Any], path: str) -> Iterator[Any]:
    with _hdus(path) as hdus, kind(hdus) as model:
        yield model


def _matching(exposure: Any, reference: Any) -> Any:
    return reference if ref_matches_sci(exposure, reference) else get_subarray_model(exposure, reference)


def _floats(values: Any) -> Image:
    return np.array(values, dtype=np.float32, order="C")


def _flags(values: Any) -> PixelFlags:
    return np.array(values, dtype=np.uint32, order="C")


def _read_gain(exposure: Any, path: str) -> tuple[Image, float | None]:
    with _opened(datamodels.GainModel, path) as model:
        return _floats(_matching(exposure, model).data), model.meta.exposure.gain_factor


def _read_mask(exposure: Any, path: str) -> PixelFlags | None:
    if path == NOT_APPLICABLE:
        return None
    with _opened(datamodels.MaskModel, path) as model:
        return _flags(_matching(exposure, model).dq)


def _read_saturation(exposure: Any, path: str) -> Saturation | None:
    if path == NOT_APPLICABLE:
        return None
    with _opened(datamodels.SaturationModel, path) as model:
        cut = _matching(exposure, model)
        threshold, dq = _floats(cut.data), _flags(cut.dq)
    dq[np.isnan(threshold)] |= pixel["NO_SAT_CHECK"]
    unchecked = (dq & pixel["NO_SAT_CHECK"]) != 0
    threshold[unchecked] = CONVERTER_LIMIT_DN + 1
    return Saturation(threshold, unchecked, dq)


def _read_bias(exposure: Any, path: str) -> Bias | None:
    if path == NOT_APPLICABLE:
        return None
    with _opened(datamodels.SuperBiasModel, path) as model:
        cut = _matching(exposure, model)
        return Bias(_floats(cut.data), _flags(cut.dq))


def _read_ipc(exposure: Any, path: str) -> Ipc | None:
    if path == NOT_APPLICABLE:
        return None
    with _opened(datamodels.IPCModel, path) as model:
        return Ipc(_floats(get_ipc_slice(exposure, model)), tuple(get_num_ref_pixels(exposure)))


def _read_linearity(exposure: Any, path: str) -> Linearity | None:
    if path == NOT_APPLICABLE:
        return None
    with _opened(datamodels.LinearityModel, path) as model:
        cut = _matching(exposure, model)
        dq = _flags(cut.dq)
        coefficients, unknown = prepared(cut.coeffs, dq)
        inverse = None
        if cut.inv_coeffs is not None and exposure.meta.exposure.nframes > 1:
            inverse, without = prepared(cut.inv_coeffs, dq)
            unknown |= without
    dq[unknown] |= pixel["NO_LIN_CORR"]
    return Linearity(coefficients, inverse, dq)


def _read_dark(exposure: Any, path: str) -> Dark | None:
    if path == NOT_APPLICABLE:
        return None
    with _hdus(path) as hdus:
        planes = hdus["SCI"].header["NAXIS3"]
        # The planes are most of the file, and those after the last group are not needed.
        with datamodels.DarkModel(fits.HDUList([hdu for hdu in hdus if hdu.name != "SCI"])) as model:
            mean, dq = _mean_dark_current(exposure, model), model.dq
            pattern = model.meta.exposure.nframes, model.meta.exposure.groupgap
    readout, groups = exposure.meta.exposure, exposure.data.shape[1]
    if dq is not None and pattern == (readout.nframes, readout.groupgap) and groups <= planes:
        return Dark(DarkPlanes(path, groups), _flags(dq), mean)
    with _opened(datamodels.DarkModel, path) as model:
        return Dark(_averaged(exposure, DarkData(dark_model=model)), _flags(model.dq), mean)


def _averaged(exposure: Any, dark: DarkData) -> NDArray[np.floating] | None:
    """Average the dark's frames into the exposure's groups (`do_correction_data` of stcal's ``dark_sub``)."""
    readout, groups = exposure.meta.exposure, exposure.data.shape[1]
    if dark.exp_nframes > readout.nframes or dark.exp_groupgap > readout.groupgap:
        return None
    period = dark.exp_nframes + dark.exp_groupgap
    missing = _frames(groups, readout.nframes, readout.groupgap)
    missing -= _frames(len(dark.data), dark.exp_nframes, dark.exp_groupgap)
    if missing > 0:
        extrapolate_dark(dark, int(np.ceil((missing + dark.exp_groupgap) / period)))
    dark.data = np.where(np.isnan(dark.data), dark.data.dtype.type(0), dark.data)
    if (dark.exp_nframes, dark.exp_groupgap) != (readout.nframes, readout.groupgap):
        dark = average_dark_frames_3d(dark, groups, readout.nframes, readout.groupgap)
    return np.ascontiguousarray(dark.data[:groups], dtype=dark.data.dtype.newbyteorder("="))


def _frames(groups: int, nframes: int, groupgap: int) -> int:
    return groups * nframes + (groups - 1) * groupgap


def _mean_dark_current(exposure: Any, dark: Any) -> Image | None:
    """Mean dark current of each pixel, else of the detector, else none (`set_average_dark_current` of the step)."""
    shape = exposure.data.shape[-2:]
    image = dark.average_dark_current
    if image is None or np.sum(image) == 0.0:
        return np.full(shape, dark.meta.exposure.average_dark_current or 0.0, dtype=np.float32)
    # jwst compares with the exposure's own image, of which raw exposures have none: only the scalar is ever used.
    return _floats(image) if np.shape(exposure.average_dark_current) == image.shape else None
