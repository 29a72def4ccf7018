"""The page of the verdict on astrometry: whole in itself, small, and drawn by a real browser."""

import re
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from astropy.table import QTable
from PIL import Image
from support.programs import require_browser
from support.star_tables import star_field

from cosmosaic.astrometry.flux import FluxScale, flux_corrections
from cosmosaic.astrometry.flux_solution import FluxSolution, flux_table
from cosmosaic.astrometry.parts import judge_parts, verdict_table
from cosmosaic.astrometry.pictures import draw_maps, draw_plots
from cosmosaic.astrometry.verdict import held_out_verdict, judge_fluxes, null_verdict
from cosmosaic.records import STATES
from cosmosaic.sharpness.compare import summary, summary_of_tile
from cosmosaic.sharpness.page import write_page

LARGEST_BYTES = 1_000_000


def stars(ratio, number=20, tiles=()):
    """Stars of a mosaic that are wider than those of its exposures, everywhere or by the ratio of each tile."""
    width = np.linspace(0.05, 0.06, number)
    table = QTable({"fwhm": ratio * width, "fwhm_exposures": width})
    for name in ("e1", "e2", "e1_exposures", "e2_exposures"):
        table[name] = np.zeros(number)
    table.meta |= summary(table) | {
        "tiles": [summary_of_tile(tile, stars(of_tile, few)) for tile, of_tile, few in tiles]
    }
    return table


def write(folder, seen, judged_before, judged_after, scales, sharpness):
    judged = {"before": judged_before, "after": judged_after}
    metrics = {when: (*one.metrics, judge_fluxes(scales)) for when, one in judged.items()}
    metrics["noise"] = null_verdict(seen, judged_after)
    parts = {when: judge_parts(seen, one, None, ()) for when, one in judged.items()}
    verdict_table(metrics, parts).write(folder / "mock_astrometry.ecsv", format="ascii.ecsv")
    flux_table(FluxSolution(scales=scales, exposures={})).write(folder / "mock_fluxscale.ecsv", format="ascii.ecsv")
    for name, table in sharpness.items():
        table.write(folder / f"{name}_sharpness.ecsv", format="ascii.ecsv")
    return write_page(
        folder / "mock_astrometry.ecsv",
        folder / "mock_fluxscale.ecsv",
        folder / "maps.png",
        folder / "plots.png",
        {name: folder / f"{name}_sharpness.ecsv" for name in sharpness},
        "mock",
        {"align.ecsv": "mock_align.ecsv"},
        folder,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A survey with one smeared mosaic and one wrong detector."""
    folder = tmp_path_factory.mktemp("page")
    field = star_field(8.0, columns=1, rows=1)
    detections = replace(field.detections, fluxes=10 ** (0.4 * (31.4 + field.detections.fluxes)))
    judged = dict(zip(("before", "after"), held_out_verdict(field.seen, detections), strict=True))
    draw_maps(field.seen, judged, folder / "maps.png")
    draw_plots(field.seen, judged, folder / "plots.png")
    scales = [FluxScale("F150W", f"NRCB{n}", offset, 0.002, 40, 0) for n, offset in enumerate((0.015, -0.03, 0.015), 1)]
    sharpness = {
        "F115W": stars(1.001, tiles=[("e0n0", 1.0, 20), ("e1n0", 1.001, 20), ("w1n0", 1.0, 4)]),
        "F150W": stars(1.1, tiles=[("e0n0", 1.001, 20), ("e1n0", 1.1, 20), ("w1n0", 1.0, 0)]),
        "F277W": stars(1.0, number=2),
    }
    return write(folder, field.seen, judged["before"], judged["after"], flux_corrections(scales, ()), sharpness)


def test_the_page_tells_what_is_wrong(made):
    text = re.sub(r"\s+", " ", made.files["page"].read_text())
    assert STATES[int(made.facts["state"])] == "fail"
    reasons = re.findall(r"<li>(.*?)</li>", text)
    assert any(reason.startswith("F150W: stars of the mosaic are 10.0") for reason in reasons)
    assert any(reason.startswith("F150W NRCB2: the same stars differ by 30") for reason in reasons)
    assert len(reasons) == 2
    assert "-30.0 ± 2.0" in text
    rows = re.findall(r"<tr><td>(width F\d+W)</td><td><span[^>]*>(.*?)</span>", text)
    assert "Not measurable, too few stars in common: module, width F277W, ellipticity F277W." in text
    assert rows == [("width F115W", "pass"), ("width F150W", "fail"), ("width F277W", "not measurable")]


def test_the_page_tells_the_tile_with_wide_stars_and_the_filter_that_is_worst_there(made):
    rows = re.findall(r"<tr><td>([ew]\dn0)</td><td><span[^>]*>(.*?)</span>", made.files["page"].read_text())
    assert rows == [("e1n0", "fail"), ("w1n0", "not measurable"), ("e0n0", "pass")]
    text = re.sub(r"\s+", " ", made.files["page"].read_text())
    (row,) = re.findall(r"<tr><td>e1n0</td>.*?</tr>", text)
    values = [one.strip() for one in re.findall(r'<td class="number">(.*?)</td>', row)]
    assert values[0] == "20"
    assert [one for one in values[1:] if one] == ["10.00 ± 0.00", "0.00 ± 0.00"]


def test_the_page_is_small_and_loads_nothing_from_elsewhere(made):
    text = made.files["page"].read_text()
    assert len(text) < LARGEST_BYTES
    loaded = re.findall(r'src="([^"]*)"', text)
    assert len(loaded) == 2
    assert all(address.startswith("data:image/jpeg;base64,") for address in loaded)
    assert re.findall(r'href="([^"]*)"', text) == ["mock_align.ecsv"]
    assert not re.search(r"https?://|@import|url\(", text)


def test_nothing_that_can_be_measured_is_told(tmp_path):
    field = star_field(8.0, columns=1, rows=1)
    none = field.detections.select(np.zeros(0, dtype=int))
    for seen in ([], field.seen):
        judged = held_out_verdict(seen, none)
        for draw in (draw_maps, draw_plots):
            draw(seen, dict(zip(("before", "after"), judged, strict=True)), tmp_path / f"{draw.__name__[5:]}.png")
    made = write(tmp_path, seen, *judged, (), {"F150W": stars(1.0, number=1)})
    assert STATES[int(made.facts["state"])] == "not measurable"
    text = made.files["page"].read_text()
    assert "Not measurable: no filter has two detectors" in text
    assert "Not measurable, too few stars in common: exposure, roll, detector," in text
    assert "Nothing stands out" not in text
    assert ">pass</span>" not in text


@pytest.mark.server
@pytest.mark.parametrize("width", [420, 1200])
def test_a_browser_without_a_network_draws_the_page(made, width, tmp_path):
    picture = tmp_path / "page.png"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={width},2600"]
    options += [f"--user-data-dir={tmp_path / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command = [require_browser(), *options, f"--screenshot={picture}", made.files["page"].as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    with Image.open(picture) as drawn:
        pixels = np.asarray(drawn.convert("RGB")).astype(int)
    # Badges from top to bottom: of the survey, and of the metrics that fail; nothing is cut off at the right.
    red = (np.abs(pixels - (0xB3, 0x26, 0x1E)).max(axis=2) < 12).any(axis=1)
    assert (np.diff(red.astype(int)) == 1).sum() >= 2
    arrows = np.ptp(pixels[1000:], axis=2) > 100
    assert arrows.sum() > 500
    assert np.ptp(pixels[:, -4:], axis=0).max() == 0
