"""The page on catalogues: its numbers are the table's, it is small, and what was not measured never passes."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from PIL import Image
from support.catalogs import catalog_table, random_columns, write_window
from support.programs import require_browser

from cosmosaic.catalog.columns import as_table
from cosmosaic.catalog.flags import CatalogFlag
from cosmosaic.census.census import take_census
from cosmosaic.census.page import FLAG_MEANINGS, complete_to, magnitude_at, overall, write_page
from cosmosaic.injection.judgement import judge_catalog
from cosmosaic.injection.recovery import matched_specs
from cosmosaic.nircam import FILTERS
from cosmosaic.records import STATES

BANDS = ("F150W", "F277W", "F444W")
LARGEST_BYTES = 3_000_000


def census(folder, name, columns, bands=BANDS, **how):
    window = write_window(folder, name, columns, bands, **how)
    return take_census(window.catalog, window.mosaics, window.depths, window.psfs, {}, name, folder).files["census"]


def page(folder, paths, survey="mock", asked_for=False, windows=None, injection=None):
    """Write the page; ``injection`` has verdicts and completeness by filter, and the injected sources."""
    verdicts, completeness, injected = injection or ({}, {}, None)
    made = write_page(
        paths,
        verdicts,
        completeness,
        injected,
        survey,
        windows or tuple(paths),
        asked_for,
        {name: {"cat.ecsv": f"mock_{name}_cat.ecsv"} for name in windows or paths}
        | {"": {"sky.html": "mock_sky.html"}},
        {name: {f"{name}.png": f"injection/{name}.png"} for name in BANDS},
        folder,
    )
    return made, made.files["page"].read_text(encoding="utf-8")


def words(text):
    """The page's text without tags, in single blanks."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)))


def table(text, name):
    """The rows of one of the page's tables, as text."""
    (body,) = re.findall(rf'<table class="{name}">(.*?)</table>', text, re.DOTALL)
    rows = re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    return [[words(cell).strip() for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)] for row in rows[1:]]


def badges(text):
    return re.findall(r'<span class="state [^"]*">(.*?)</span>', text)


def judged(folder, bands, bias=0.0):
    """What an injection of sources gives, whose fluxes are too bright by some magnitudes."""
    generator, number = np.random.default_rng(1), 2000
    specs = matched_specs(bands)
    columns = {
        name: np.zeros(number, dtype="U8" if spec.dtype == "str" else spec.dtype) for name, spec in specs.items()
    }
    snr = 10 ** generator.uniform(0.3, 2.5, number)
    columns |= {
        "kind": np.where(np.arange(number) % 2, "star", "galaxy"),
        "half_light_radius": np.where(np.arange(number) % 2, np.nan, 0.3),
        "found": snr > 4.1,
        "isolated": np.ones(number, bool),
    }
    for band in bands:
        prefix = band.lower()
        flux = 10.0 * snr
        measured = np.where(columns["found"], flux + generator.normal(0, 10.0, number), np.nan)
        columns |= {f"{prefix}_true_flux": flux, f"{prefix}_snr": snr, f"{prefix}_flux_err": np.full(number, 10.0)}
        columns |= {f"{prefix}_flux": measured * 10 ** (0.4 * bias), f"{prefix}_aper_flux": measured}
        columns[f"{prefix}_aper_flux_err"] = np.full(number, 10.0)
    injected = folder / "mock_injected.ecsv"
    as_table(specs, columns).write(injected, format="ascii.ecsv", overwrite=True)
    own = folder / "own_cat.ecsv"
    catalog_table(random_columns(200, bands), bands).write(own, format="ascii.ecsv", overwrite=True)
    made = {band: judge_catalog(injected, (own,), (own,), band, f"mock_{band.lower()}", folder) for band in bands}
    verdicts = {band: one.files["verdict"] for band, one in made.items()}
    completeness = {band: one.files["completeness"] for band, one in made.items()}
    return (verdicts, completeness, injected), {band: STATES[int(one.facts["state"])] for band, one in made.items()}


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The catalogue of one window, and its page."""
    folder = tmp_path_factory.mktemp("page")
    columns = random_columns(600, BANDS)
    columns["flags"][:30] = CatalogFlag.REJECTED | CatalogFlag.SHALLOW
    columns["flags"][30:40] = CatalogFlag.SATURATED
    for name in ("flux", "flux_err", "mag"):
        columns[f"f277w_{name}"][100:150] = np.nan
    return columns, *page(folder, {"full": census(folder, "full", columns)})


def test_the_numbers_on_the_page_are_those_of_the_catalogue(shown):
    columns, made, text = shown
    area = 200 * 180 * (0.03 / 60) ** 2
    assert f"600 sources area {area:.2f} arcmin² ({600 / area:.1f} per arcmin²); 3 filters, 1 window" in words(text)
    for place, (band, row) in enumerate(zip(BANDS, table(text, "filters"), strict=True)):
        flux, error = columns[f"{band.lower()}_flux"], columns[f"{band.lower()}_flux_err"]
        assert row[:4] == [band, "not measured", str(np.sum(flux / error >= 5)), str(np.isfinite(flux).sum())]
        # The maps rise by a magnitude over the window, of which the first tenth has no data.
        depths = [27 + place + 0.1 + 0.9 * share for share in (0.5, 0.05, 0.95)]
        shallow, deep = map(float, row[5].split(" to "))
        assert [float(row[4]), shallow, deep] == pytest.approx(depths, abs=0.02)
        assert float(row[6]) == pytest.approx(0.81, abs=0.02)
        assert row[7:] == ["not measured", f"{area:.2f}", f"{0.05 + 0.01 * place:.3f}", "stars"]
    flags = {name: (int(rows), share) for name, _, rows, share, _ in table(text, "flags")}
    assert list(flags) == [flag.name for flag in CatalogFlag]
    assert {name: rows for name, (rows, _) in flags.items() if rows} == {"SHALLOW": 30, "REJECTED": 30, "SATURATED": 10}
    assert flags["REJECTED"] == (30, "5.0")
    assert table(text, "windows") == [["full", "600", f"{area:.2f}", "cat.ecsv"]]
    assert made.facts == {"sources": 600.0, "arcmin2": pytest.approx(area), "state": None}


def test_each_flag_has_its_meaning():
    assert list(FLAG_MEANINGS) == list(CatalogFlag)


def test_odd_rows_are_named_with_their_reasons_and_stamps(shown):
    columns, _, text = shown
    odd = re.findall(r'<div class="odd">(.*?)</div></div></div>', text, re.DOTALL)
    brightest = np.min([columns[f"{band.lower()}_mag"] for band in BANDS], axis=0)
    row = int(np.argmin(brightest[:30]))
    (entry,) = [one for one in odd if f"<strong>{columns['name'][row]}</strong>" in one]
    assert f"id {row + 1};" in words(entry)
    assert f"rejected : magnitude {brightest[row]:.2f}" in words(entry)
    assert "SHALLOW REJECTED" in words(entry)
    assert f"F150W {columns['f150w_mag'][row]:.2f}" in words(entry)
    assert entry.count("data:image/jpeg;base64,") == 1
    assert "negative : most significant negative flux: the sky or a wisp is subtracted too deeply; no row" in words(
        text
    )


def test_without_an_injection_nothing_is_told_of_completeness_but_how_to_measure_it(shown):
    _, made, text = shown
    assert set(badges(text)) == {"not measured"}
    assert "Completeness, flux bias and error pulls are not measured: no sources were injected." in words(text)
    assert "injection.with_products = true" in words(text)
    assert "injection/" not in text
    assert made.facts["state"] is None


def test_an_injection_that_failed_is_told_as_such(tmp_path):
    _, text = page(tmp_path, {"full": census(tmp_path, "full", random_columns(50, BANDS))}, asked_for=True)
    assert set(badges(text)) == {"not measured"}
    assert "the injection gave no result; the log of the run says why" in words(text)


@pytest.mark.parametrize(("bias", "state"), [(0.0, "pass"), (0.04, "warn"), (0.3, "fail")])
def test_the_verdict_of_the_injection_is_shown(tmp_path, bias, state):
    injection, states = judged(tmp_path, BANDS, bias)
    assert set(states.values()) == {state}
    made, text = page(
        tmp_path, {"full": census(tmp_path, "full", random_columns(50, BANDS))}, asked_for=True, injection=injection
    )
    assert badges(text)[:4] == [state] * 4
    assert "not measured" not in words(text)
    assert STATES[int(made.facts["state"])] == state
    rows = {(row[0], row[1]): row for row in table(text, "metrics")}
    for band in BANDS:
        verdict = Table.read(injection[0][band], format="ascii.ecsv")
        for metric in verdict:
            value = f"{metric['value']:.3f} ± {metric['error']:.3f}"
            assert rows[band, metric["name"]][2:5] == [metric["state"], value, str(metric["number"])]
    # Found is what has an S/N of 4.1 and more: 41 nJy.
    for row in table(text, "filters"):
        assert float(row[7]) == pytest.approx(31.4 - 2.5 * np.log10(41), abs=0.6)
    assert len(re.findall(r"injection/F\d+W.png", text)) == 3


def test_filters_that_pass_do_not_speak_for_one_that_was_not_measured(tmp_path):
    paths = {"full": census(tmp_path, "full", random_columns(50, BANDS))}
    injection, states = judged(tmp_path, BANDS[:2])
    assert set(states.values()) == {"pass"}
    made, text = page(tmp_path, paths, asked_for=True, injection=injection)
    assert badges(text)[:4] == ["not measured", "pass", "pass", "not measured"]
    assert "Completeness and errors are not measured in F444W" in words(text)
    assert made.facts["state"] is None


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (("pass", "pass"), "pass"),
        (("pass", None), "not measured"),
        ((None, None), "not measured"),
        (("not measurable", None), "not measured"),
        (("pass", "not measurable"), "not measurable"),
        (("fail", None), "fail"),
        (("warn", None, "pass"), "warn"),
        ((), "not measured"),
    ],
)
def test_the_state_of_all_filters(states, expected):
    assert overall(dict(enumerate(states))) == expected


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ((1.0, 0.9, 0.7, 0.1), 27.0),
        ((1.0, 1.0, 0.9, 0.85), None),
        ((0.5, 0.4, 0.3, 0.1), None),
        ((1.0, 0.8, 0.0, 0.0), 26.5),
    ],
)
def test_the_magnitude_of_a_completeness_is_interpolated(shares, expected):
    low = np.array([25.0, 26.0, 27.0, 28.0])
    stars = {"sample": ["stars"] * 4, "mag_low": low, "mag_high": low + 1, "completeness": shares}
    galaxies = {"sample": ["galaxies"], "mag_low": [24.0], "mag_high": [25.0], "completeness": [0.0]}
    rows = Table({name: [*galaxies[name], *reversed(stars[name])] for name in stars})
    assert magnitude_at(rows, 0.8) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("sample", "shares", "told"),
    [
        ("stars", [0.9, 0.7], "26.00"),
        ("stars", [1.0, 0.9], "> 26.50"),
        ("stars", [0.7, 0.1], "< 25.50"),
        ("galaxies", [0.9, 0.7], "not measured"),
    ],
)
def test_completeness_that_does_not_fall_through_the_share_gives_a_bound(sample, shares, told):
    rows = Table({"sample": [sample] * 2, "mag_low": [25.0, 26.0], "mag_high": [26.0, 27.0], "completeness": shares})
    assert complete_to(rows, 0.8) == told


@pytest.mark.parametrize("bands", [BANDS, BANDS[:2], ("F444W",)])
@pytest.mark.parametrize("number", [0, 1, 60])
def test_few_filters_and_few_sources_have_a_page(tmp_path, bands, number):
    made, text = page(tmp_path, {"full": census(tmp_path, "full", random_columns(number, bands), bands)})
    noun = "source" if number == 1 else "sources"
    assert f" {number} {noun} area" in words(text)
    assert ("No source was found." in text) == (number == 0)
    assert ("One filter has no colours." in text) == (len(bands) == 1)
    assert len(table(text, "filters")) == len(bands)
    assert made.facts["sources"] == number


def test_a_filter_of_nulls_alone_has_a_page(tmp_path):
    columns = random_columns(40, BANDS)
    for name in columns:
        if name.startswith("f277w_") or name in ("half_light_radius", "concentration", "star_probability"):
            columns[name][:] = np.nan
    _, text = page(tmp_path, {"full": census(tmp_path, "full", columns)})
    assert table(text, "filters")[1][2:4] == ["0", "0"]
    assert "nan" not in words(text).lower()


def test_windows_add_up_and_those_without_a_catalogue_are_named(tmp_path):
    paths = {name: census(tmp_path / name, name, random_columns(100 + n, BANDS, n)) for n, name in enumerate("abc")}
    made, text = page(tmp_path, paths, windows=("a", "b", "c", "far"))
    assert made.facts["sources"] == 303
    assert "Without a catalogue: far ;" in words(text)
    assert [row[:2] for row in table(text, "windows")] == [["a", "100"], ["b", "101"], ["c", "102"]]
    assert "mock_far_cat.ecsv" not in text
    assert "Where windows overlap" in text


def test_the_name_of_a_survey_is_shown_as_it_is(tmp_path):
    paths = {"full": census(tmp_path, "full", random_columns(20, BANDS))}
    made, text = page(tmp_path, paths, survey="Çosmos <Ω> 天空")
    assert made.files["page"].name == "Çosmos <Ω> 天空_catalogue.html"
    assert "<h1>Çosmos &lt;Ω&gt; 天空: what is in the catalogue?</h1>" in text


def test_the_page_is_small_and_loads_nothing_from_elsewhere(shown):
    _, _, text = shown
    assert len(text) < LARGEST_BYTES / 3
    loaded = re.findall(r'src="([^"]*)"', text)
    assert len(loaded) > 4
    assert all(address.startswith("data:image/jpeg;base64,") for address in loaded)
    assert re.findall(r'href="([^"]*)"', text) == ["mock_full_cat.ecsv", "mock_sky.html"]
    assert not re.search(r"https?://|@import|url\(", text)


def test_the_page_of_many_sources_is_bounded(tmp_path):
    _, text = page(tmp_path, {"full": census(tmp_path, "full", random_columns(100_000, BANDS), BANDS)})
    assert len(text) < LARGEST_BYTES
    assert "20000 of 100000 rows, drawn at random" in text


@pytest.mark.slow
def test_the_page_of_all_filters_is_bounded(tmp_path):
    odd = random_columns(200, FILTERS)
    odd["flags"] = np.random.default_rng(0).choice([int(flag) for flag in CatalogFlag], 200)
    (verdicts, completeness, injected), _ = judged(tmp_path, BANDS)
    one = Table.read(injected, format="ascii.ecsv")
    for band in FILTERS:
        for name in ("true_flux", "snr", "flux", "flux_err", "aper_flux", "aper_flux_err"):
            one[f"{band.lower()}_{name}"] = one[f"f150w_{name}"]
    one.write(injected, format="ascii.ecsv", overwrite=True)
    everywhere = (dict.fromkeys(FILTERS, files["F150W"]) for files in (verdicts, completeness))
    paths = {"full": census(tmp_path, "full", odd, FILTERS)}
    _, text = page(tmp_path, paths, asked_for=True, injection=(*everywhere, injected))
    assert len(text) < LARGEST_BYTES
    assert len(table(text, "filters")) == len(FILTERS)
    assert text.count("data:image/jpeg") > 6 + 10


@pytest.mark.server
@pytest.mark.parametrize("width", [420, 1200])
def test_a_browser_without_a_network_draws_the_page(tmp_path, width):
    injection, _ = judged(tmp_path, BANDS, 0.3)
    paths = {"full": census(tmp_path, "full", random_columns(600, BANDS))}
    made, _ = page(tmp_path, paths, asked_for=True, injection=injection)
    pixels = drawn(made.files["page"], tmp_path, width)
    # Badges of the survey, and of filters and metrics that fail; nothing is cut off at the right.
    red = (np.abs(pixels - (0xB3, 0x26, 0x1E)).max(axis=2) < 12).any(axis=1)
    assert (np.diff(red.astype(int)) == 1).sum() >= 4
    assert (np.ptp(pixels[600:], axis=2) > 60).sum() > 2000
    assert np.ptp(pixels[:, -4:], axis=0).max() == 0


def drawn(path: Path, folder: Path, width: int) -> np.ndarray:
    """The page's pixels."""
    picture = folder / "page.png"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={width},4000"]
    options += [f"--user-data-dir={folder / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command = [require_browser(), *options, f"--screenshot={picture}", path.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    with Image.open(picture) as image:
        return np.asarray(image.convert("RGB")).astype(int)
