"""The census of each window's catalogue, and the page on the catalogues of a survey, as steps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from cosmosaic.catalog.steps import (
    CatalogParquet,
    DepthMap,
    Images,
    MeasuredBand,
    NumberedCatalog,
    Psf,
    TakenImage,
    with_images,
    with_psfs,
)
from cosmosaic.injection.steps import FOLDER, CompletenessTable, Injected, InjectedTable, InjectionVerdict
from cosmosaic.mosaic.steps import Mosaic
from cosmosaic.records import STATES
from cosmosaic.steps.declaration import Job, Outputs, Step, if_made, names_of, surviving
from cosmosaic.steps.files import File
from cosmosaic.survey import Survey


class CensusFile(File, suffix="_census.npz"):
    """What the catalogue of a window holds, in numbers and stamps."""


class CatalogPage(File, suffix="_catalogue.html", kind="catalogue page"):
    """What the catalogues of a survey hold."""


@dataclass(frozen=True)
class TakenCensus(Outputs):
    """The census of a window."""

    census: CensusFile


@dataclass(frozen=True, kw_only=True)
class TakeCensus(Step[TakenCensus]):
    """Count the sources of a window by magnitude, depth, colour and flag, and cut out those that stand out."""

    title = "Census"
    version = 2
    function = "cosmosaic.census.census:take_census"
    per = "survey"
    written = 0.3

    catalog: CatalogParquet
    mosaics: Mapping[str, Mosaic] = if_made()
    """By filter."""
    depths: Mapping[str, DepthMap] = if_made()
    psfs: Mapping[str, Psf] = if_made()
    wavelengths_um: Mapping[str, float]
    """Of other telescopes' filters."""
    window: str

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether there are catalogues."""
        return survey.drizzle.errors != "none"


@dataclass(frozen=True)
class WrittenCatalogPage(Outputs):
    """The page."""

    page: CatalogPage


@dataclass(frozen=True, kw_only=True)
class WriteCatalogPage(Step[WrittenCatalogPage]):
    """Write what the catalogues of all windows hold as one HTML file."""

    title = "Catalogue page"
    version = 2
    function = "cosmosaic.census.page:write_page"
    per = "survey"
    columns: ClassVar = {"sources": "sources", "arcmin2": "catalogue_arcmin2"}

    census: Mapping[str, CensusFile] = surviving()
    """By window."""
    verdicts: Mapping[str, InjectionVerdict] = if_made()
    """By filter."""
    completeness: Mapping[str, CompletenessTable] = if_made()
    injected: InjectedTable | None = if_made()
    survey: str
    windows: tuple[str, ...]
    """Those that should have a catalogue."""
    is_injection_asked_for: bool
    links: Mapping[str, Mapping[str, str]]
    """File name of each product of a window by its label; those of all windows under an empty name."""
    injection_links: Mapping[str, Mapping[str, str]]
    """The same of the injection's products by filter."""

    @classmethod
    def is_asked_for(cls, survey: Survey) -> bool:
        """Return whether there are catalogues."""
        return survey.drizzle.errors != "none"

    @classmethod
    def row(cls, facts: Mapping[str, float]) -> dict[str, Any]:
        """Return the columns, and the injection's verdict in words."""
        state = STATES[int(facts["state"])] if "state" in facts else "not measured"
        return {"injection_verdict": state, **super().row(facts)}


def write_catalog_page(
    bands: Mapping[str, MeasuredBand],
    images: Images,
    catalogs: Mapping[str, NumberedCatalog],
    injected: Injected | None,
    job: Job,
) -> WrittenCatalogPage:
    """Submit the census of each window, and the page on all of them.

    Parameters
    ----------
    bands
        The mosaics of each filter, their depths and PSFs.
    images
        Those of other telescopes in each window.
    catalogs
        The catalogue of each window; one at least.
    injected
        The injection of sources, if there is one.
    job
        The run.
    """
    name = job.survey.name
    census = {tile: _census(bands, images[tile], catalog, tile, job) for tile, catalog in catalogs.items()}
    verdicts = injected.verdicts if injected else {}
    step = WriteCatalogPage(
        census=census,
        verdicts={band: each.verdict for band, each in verdicts.items()},
        completeness={band: each.completeness for band, each in verdicts.items()},
        injected=injected.matched.table if injected else None,
        survey=name,
        windows=tuple(catalogs),
        is_injection_asked_for=job.survey.injection.with_products,
        links={tile: names_of(f"{name}_{tile}", catalog) for tile, catalog in catalogs.items()}
        | {"": {"sky.html": f"{name}_sky.html"}},
        injection_links={band: _in_folder(names_of(f"{name}_{band.lower()}", each)) for band, each in verdicts.items()},
    )
    return job.submit(step, ", ".join(bands))


def _census(
    bands: Mapping[str, MeasuredBand],
    images: Mapping[str, TakenImage],
    catalog: NumberedCatalog,
    tile: str,
    job: Job,
) -> CensusFile:
    here = {band: measured for band, measured in bands.items() if tile in measured.psfs}
    step = TakeCensus(
        catalog=catalog.parquet,
        mosaics=with_images({band: measured.mosaics[tile].mosaic for band, measured in here.items()}, images),
        depths={band: measured.depths[tile].depth for band, measured in here.items()},
        psfs=with_psfs({band: measured.psfs[tile].psf for band, measured in here.items()}, images),
        wavelengths_um={band: one.wavelength_um for band, one in job.survey.catalog.images.items()},
        window=tile,
    )
    return job.submit(step, tile).census


def _in_folder(names: Mapping[str, str]) -> dict[str, str]:
    """Links to products of the injection, by their names: labels alone do not tell the filter."""
    return {name: f"{FOLDER}/{name}" for name in names.values()}
