"""The Prefect task of each step: the declared step with its retry policy. `Run.submit` finds it in `TASKS`."""

from cosmosaic.artefacts.steps import FlagPersistence, ListBright, MaskRegions, MeasureWisps, SubtractWisp
from cosmosaic.astrometry.steps import (
    AlignExposure,
    FindStars,
    ScaleExposure,
    ShareAberration,
    SolveAlignment,
    SolveNetwork,
)
from cosmosaic.calibrate.steps import CalibrateRamp, CalibrateRate, CleanCalibrated, VerifyRamp
from cosmosaic.catalog.steps import (
    DrizzlePsf,
    MakePsf,
    MeasureDepth,
    MeasureSources,
    NumberCatalog,
    NumberSources,
    TakeImage,
    WriteEazy,
)
from cosmosaic.cells.steps import BinExposure, BinMaskedExposure
from cosmosaic.census.steps import TakeCensus, WriteCatalogPage
from cosmosaic.comparison.steps import ChooseSky, CompareMethods
from cosmosaic.drizzle.steps import DrizzleExposure, InspectExposure
from cosmosaic.exposures.steps import ListMembers, WriteAssociation
from cosmosaic.injection.steps import (
    CorrectCatalog,
    DrawSources,
    InjectSources,
    JudgeCatalog,
    MatchInjected,
    MeasureNegative,
)
from cosmosaic.mosaic.steps import AssembleMosaic, CombineTile, DrizzleWithJwst, ListDefects
from cosmosaic.outliers.steps import FlagExposure, FlagWithJwst, KeepExposure, MakeReference
from cosmosaic.preview.steps import DrawColours, DrawMosaic
from cosmosaic.sharpness.steps import CompareSharpness, MeasureShapes, WriteAstrometryPage
from cosmosaic.simulate.steps import SimulateExposure, SimulateReferences, SimulateTruth
from cosmosaic.sky.steps import MeasureSky
from cosmosaic.steps.publication import Publish, publish
from cosmosaic.verdict.steps import GatherVerdict, JudgeExposures, JudgeTiles, WritePage
from tasks.runtime.caching import TASKS, step_task
from tasks.runtime.retries import COMPUTING, STORING

__all__ = ["TASKS", "main", "step_table"]

simulate_references = step_task(SimulateReferences, COMPUTING)
simulate_truth = step_task(SimulateTruth, COMPUTING)
simulate_exposure = step_task(SimulateExposure, COMPUTING)
calibrate_ramp = step_task(CalibrateRamp, COMPUTING)
calibrate_rate = step_task(CalibrateRate, COMPUTING)
clean_calibrated = step_task(CleanCalibrated, COMPUTING)
verify_ramp = step_task(VerifyRamp, COMPUTING)
list_bright = step_task(ListBright, COMPUTING)
flag_persistence = step_task(FlagPersistence, COMPUTING)
mask_regions = step_task(MaskRegions, COMPUTING)
inspect_exposure = step_task(InspectExposure, COMPUTING)
write_association = step_task(WriteAssociation, COMPUTING)
list_members = step_task(ListMembers, COMPUTING)
measure_wisps = step_task(MeasureWisps, COMPUTING)
subtract_wisp = step_task(SubtractWisp, COMPUTING)
share_aberration = step_task(ShareAberration, COMPUTING)
find_stars = step_task(FindStars, COMPUTING)
solve_alignment = step_task(SolveAlignment, COMPUTING)
solve_network = step_task(SolveNetwork, COMPUTING)
align_exposure = step_task(AlignExposure, COMPUTING)
scale_exposure = step_task(ScaleExposure, COMPUTING)
bin_exposure = step_task(BinExposure, COMPUTING)
bin_masked_exposure = step_task(BinMaskedExposure, COMPUTING)
measure_sky = step_task(MeasureSky, COMPUTING)
choose_sky = step_task(ChooseSky, COMPUTING)
compare_methods = step_task(CompareMethods, COMPUTING)
drizzle_exposure = step_task(DrizzleExposure, COMPUTING)
make_reference = step_task(MakeReference, COMPUTING)
flag_exposure = step_task(FlagExposure, COMPUTING)
keep_exposure = step_task(KeepExposure, COMPUTING)
flag_with_jwst = step_task(FlagWithJwst, COMPUTING)
judge_exposures = step_task(JudgeExposures, COMPUTING)
judge_tiles = step_task(JudgeTiles, COMPUTING)
gather_verdict = step_task(GatherVerdict, COMPUTING)
combine_tile = step_task(CombineTile, COMPUTING)
assemble_mosaic = step_task(AssembleMosaic, COMPUTING)
drizzle_with_jwst = step_task(DrizzleWithJwst, COMPUTING)
list_defects = step_task(ListDefects, COMPUTING)
measure_depth = step_task(MeasureDepth, COMPUTING)
make_psf = step_task(MakePsf, COMPUTING)
drizzle_psf = step_task(DrizzlePsf, COMPUTING)
take_image = step_task(TakeImage, COMPUTING)
measure_sources = step_task(MeasureSources, COMPUTING)
number_sources = step_task(NumberSources, COMPUTING)
number_catalog = step_task(NumberCatalog, COMPUTING)
write_eazy = step_task(WriteEazy, COMPUTING)
draw_sources = step_task(DrawSources, COMPUTING)
inject_sources = step_task(InjectSources, COMPUTING)
measure_negative = step_task(MeasureNegative, COMPUTING)
match_injected = step_task(MatchInjected, COMPUTING)
correct_catalog = step_task(CorrectCatalog, COMPUTING)
judge_catalog = step_task(JudgeCatalog, COMPUTING)
take_census = step_task(TakeCensus, COMPUTING)
write_catalog_page = step_task(WriteCatalogPage, COMPUTING)
measure_shapes = step_task(MeasureShapes, COMPUTING)
compare_sharpness = step_task(CompareSharpness, COMPUTING)
draw_mosaic = step_task(DrawMosaic, COMPUTING)
draw_colours = step_task(DrawColours, COMPUTING)
write_page = step_task(WritePage, COMPUTING)
write_astrometry_page = step_task(WriteAstrometryPage, COMPUTING)
publish_products = step_task(Publish, STORING, perform=lambda step, work: publish(step, work.workers.scratch))


def main(arguments: list[str]) -> int:
    """Print all steps; return the exit code."""
    print(step_table(), end="")
    return 0


def step_table() -> str:
    """Return all steps as a Markdown table, from their declarations: docs/steps.md and ``cosmosaic steps``."""
    lines = ["| step | once per | what it does | makes |", "|---|---|---|---|"]
    for step in TASKS:
        kinds = [field.kind for field in step.outputs.fields().values()]
        made = [f"**`{kind.suffix}`**" if kind.kind else f"`{kind.suffix}`" for kind in kinds if kind.suffix]
        what = (step.__doc__ or "").strip().splitlines()[0]
        lines.append(f"| {step.title} | {step.per} | {what} | {' '.join(made)} |")
    return "\n".join(lines) + "\n"
