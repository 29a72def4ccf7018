"""Stage 1 by the compiled functions within the jwst package's pipeline, which takes over where they do not apply."""

import logging
from typing import Any, ClassVar

import numpy as np
from jwst.lib.pipe_utils import is_irs2
from jwst.lib.reffile_utils import is_subarray
from jwst.pipeline import Detector1Pipeline
from jwst.ramp_fitting.ramp_fit_step import create_image_model
from jwst.stpipe.core import JwstStep

from cosmosaic.calibrate.engine import note_engine
from cosmosaic.calibrate.fused.jumps import FEWEST_GROUPS, Thresholds
from cosmosaic.calibrate.fused.ramps import Integration, Sampling, fit_integration
from cosmosaic.calibrate.fused.reference_pixels import Readout, is_reference
from cosmosaic.calibrate.fused.references import DetectorReferences, read_references
from cosmosaic.calibrate.fused.slopes import Rate
from cosmosaic.calibrate.fused.snowballs import LargeEvents

log = logging.getLogger(__name__)


class FusedDetector1Pipeline(Detector1Pipeline):
    """`jwst.pipeline.Detector1Pipeline` with compiled functions in place of its steps, for what they cover."""

    class_alias = "calwebb_detector1"
    kinds: ClassVar = (
        ("dq_init", "mask"),
        ("saturation", "saturation"),
        ("superbias", "superbias"),
        ("ipc", "ipc"),
        ("linearity", "linearity"),
        ("dark_current", "dark"),
        ("jump", "gain"),
        ("jump", "readnoise"),
    )
    """Reference types with the step that asks for each."""

    by_jwst: str = ""
    """Reason why the jwst package's own steps made the result; empty if they did not."""

    def process(self, input_data: Any) -> Any:
        """Calibrate one exposure."""
        self._opened = super().prepare_output(input_data, open_as_ramp=True)
        exposure = self._opened
        self.by_jwst = why_not(exposure, self)
        if not self.by_jwst:
            paths = self._reference_paths(exposure)
            references = read_references(exposure, paths)
            self.by_jwst = why_not_with(exposure, references)
        if self.by_jwst:
            log.info("The jwst package's own steps are used: %s", self.by_jwst)
            made = super().process(exposure)
        else:
            made = self._fit(exposure, references)
        if made is not None:
            note_engine(made, "jwst" if self.by_jwst else "fused", self.by_jwst)
        return made

    def prepare_output(self, init: Any, *arguments: Any, **options: Any) -> Any:
        """Open the exposure, once."""
        return init if init is self._opened else super().prepare_output(init, *arguments, **options)

    def _reference_paths(self, exposure: Any) -> dict[str, str]:
        paths = {}
        for name, kind in self.kinds:
            step = getattr(self, name)
            step._reference_files_used = []
            paths[kind] = step.get_reference_file(exposure, kind)
            self._reference_files_used += step._reference_files_used
        return paths

    def _fit(self, exposure: Any, references: DetectorReferences) -> Any:
        readout = exposure.meta.exposure
        zeroframe = np.array(exposure.zeroframe[0], dtype=np.float32) if exposure.hasattr("zeroframe") else None
        ramp = np.ascontiguousarray(exposure.data[0], dtype=np.float32)
        integration = Integration(ramp, zeroframe, np.ascontiguousarray(exposure.groupdq[0], dtype=np.uint8))
        large_events = large_events_of(self.jump) if self.jump.expand_large_events else None
        rate = fit_integration(integration, references, sampling_of(exposure), thresholds_of(self.jump), large_events)
        if integration.is_saturated:
            return None
        _count_cosmic_rays(readout, integration)
        return self._as_model(exposure, references, rate)

    def _as_model(self, exposure: Any, references: DetectorReferences, rate: Rate) -> Any:
        planes = {"slope": rate.sci, "dq": rate.dq, "err": rate.err}
        model = create_image_model(exposure, planes | {"var_poisson": rate.var_poisson, "var_rnoise": rate.var_rnoise})
        model.meta.bunit_data = model.meta.bunit_err = "DN/s"
        for step, status in steps_of(references, exposure.data.shape[1]).items():
            setattr(model.meta.cal_step, step, status)
        JwstStep.finalize_result(self, model, self._reference_files_used)
        self.setup_output(model)
        return model


def why_not(exposure: Any, pipeline: Detector1Pipeline) -> str:
    """Return the reasons why the compiled functions do not apply to an exposure; none if they do."""
    meta = exposure.meta
    readout = meta.exposure
    needed = (readout.nframes, readout.frame_time, readout.group_time, meta.subarray.xstart, meta.subarray.ystart)
    reasons = {
        "its header lacks keywords of the readout": None in (*needed, readout.groupgap),
        "ZEROFRAM does not mention its first frame": exposure.hasattr("zeroframe") and not readout.zero_frame,
        "it has several integrations": exposure.data.shape[0] != 1,
        "its readout is not one of NIRCam imaging": is_irs2(exposure) or abs(meta.subarray.fastaxis or 0) != 1,
        "it is read in stripes": bool(meta.subarray.num_superstripe or meta.subarray.multistripe_reads1),
        "its groups are spaced unevenly": readout.read_times is not None and len(readout.read_times) > 0,
        "its groups need scaling": needs_group_scale(readout.nframes, readout.frame_divisor),
        "it already has flags": bool(exposure.groupdq.any() or exposure.pixeldq.any()),
        "its subarray is read by four amplifiers": is_subarray(exposure) and readout.noutputs == 4,
    }
    return ", ".join(reason for reason, applies in reasons.items() if applies)


def why_not_with(exposure: Any, references: DetectorReferences) -> str:
    """Return the reasons why the compiled functions do not apply with these reference files; none if they do."""
    even = references.ipc is not None and not all(side % 2 for side in references.ipc.kernel.shape[:2])
    reasons = {
        "its gain file rescales the counts": references.gain_factor is not None,
        "its kernel of coupled pixels has no middle": even,
        "it has a single group of several frames": exposure.data.shape[1] == 1
        and references.linearity is not None
        and references.linearity.inverse is not None,
        "its subarray has reference pixels only in odd or only in even columns": is_subarray(exposure)
        and _has_half_of_reference_pixels(exposure, references),
    }
    return ", ".join(reason for reason, applies in reasons.items() if applies)


def _has_half_of_reference_pixels(exposure: Any, references: DetectorReferences) -> bool:
    dq = np.zeros(exposure.data.shape[-2:], dtype=np.uint32)
    for known in (references.mask, *(each.dq for each in (references.saturation, references.bias) if each)):
        dq |= 0 if known is None else known
    columns = np.asarray(is_reference(dq).any(axis=0))
    return bool(columns[::2].any() != columns[1::2].any())


def needs_group_scale(nframes: int | None, divisor: int | None) -> bool:
    """Return whether groups are sums that must be divided (`GroupScaleStep` of the jwst package)."""
    if nframes is None:
        return False
    return nframes & (nframes - 1) != 0 if divisor is None else nframes != divisor


def sampling_of(exposure: Any) -> Sampling:
    """Return how an exposure was read."""
    readout, window = exposure.meta.exposure, exposure.meta.subarray
    where = Readout(window.xstart - 1, window.ystart - 1, window.fastaxis, window.slowaxis)
    return Sampling(readout.nframes, readout.frame_time, readout.group_time, where)


def thresholds_of(jump: Any) -> Thresholds:
    """Return the parameters of the jump step."""
    return Thresholds(
        jump.rejection_threshold,
        jump.four_group_rejection_threshold,
        jump.three_group_rejection_threshold,
        jump.min_jump_to_flag_neighbors,
        jump.max_jump_to_flag_neighbors,
    )


def large_events_of(jump: Any) -> LargeEvents:
    """Return the parameters of snowballs of the jump step, which doubles radii to diameters."""
    return LargeEvents(
        jump.min_jump_area,
        jump.min_sat_area,
        jump.expand_factor,
        jump.sat_required_snowball,
        jump.min_sat_radius_extend,
        2 * jump.sat_expand,
        jump.edge_size,
        2 * jump.max_extended_radius,
    )


def steps_of(references: DetectorReferences, groups: int) -> dict[str, str]:
    """Return the status of each of jwst's steps."""
    done = {
        "dq_init": references.mask is not None,
        "saturation": references.saturation is not None,
        "ipc": references.ipc is not None,
        "superbias": references.bias is not None,
        "refpix": True,
        "linearity": references.linearity is not None,
        "dark_sub": references.dark is not None and references.dark.groups is not None,
        "jump": groups >= FEWEST_GROUPS,
        "ramp_fit": True,
    }
    skipped = ("group_scale", "charge_migration", "picture_frame", "clean_flicker_noise", "persistence", "gain_scale")
    status = {True: "COMPLETE", False: "SKIPPED"}
    return {step: status[is_done] for step, is_done in done.items()} | dict.fromkeys(skipped, "SKIPPED")


def _count_cosmic_rays(readout: Any, integration: Integration) -> None:
    """Record the rates of cosmic rays as the jump step does."""
    groups = len(integration.ramp)
    differences = integration.usable_groups - 1
    if groups < FEWEST_GROUPS or differences < 1:
        return
    exposed = readout.group_time * differences * integration.dq.size
    readout.primary_cosmic_rays = 1000 * integration.jumps / exposed
    readout.extended_emission_events = 1e6 * integration.snowballs / exposed
