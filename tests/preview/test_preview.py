"""Pictures show the faint sky, the gaps and the colours as they are."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from matplotlib.image import imread
from numpy.typing import NDArray

from cosmosaic.preview import images
from cosmosaic.preview.composite import channel_weights, wavelength, write_band_names, write_colour_composite
from cosmosaic.preview.footer import FOOTER, GAP_COLOUR, SECOND_LINE, TEXT_LEFT, with_footer, write_text
from cosmosaic.preview.images import block_mean, choose_zoom, describe
from cosmosaic.preview.mosaic import write_preview, write_weight_preview

SIGMA = 0.01


def write_mosaic(path: Path, sci: NDArray[np.floating], band: str = "F150W", pixel_factor: int = 1) -> Path:
    """Write a mosaic whose lower left corner is the same place for every size of pixel."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [150.1, 2.2]
    wcs.wcs.crpix = [0.5 + 200 / pixel_factor, 0.5 + 150 / pixel_factor]
    wcs.wcs.cdelt = [-pixel_factor * 0.03 / 3600, pixel_factor * 0.03 / 3600]
    planes = {"SCI": sci, "WHT": np.where(np.isfinite(sci), 3.0, 0.0)}
    images = [fits.ImageHDU(plane.astype(np.float32), wcs.to_header(), name) for name, plane in planes.items()]
    primary = fits.PrimaryHDU()
    primary.header["FILTER"], primary.header["PUPIL"] = band, "CLEAR"
    fits.HDUList([primary, *images]).writeto(path)
    return path


def noise(shape: tuple[int, int], seed: int = 1) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0.2, SIGMA, shape)


def sky_pixels(png: Path) -> NDArray[np.float64]:
    """The picture without its footer, first row at the bottom, colours from 0 to 255."""
    return np.round(255 * imread(png)[-FOOTER - 1 :: -1, :, :3])


def is_gap(pixels: NDArray[np.float64]) -> NDArray[np.bool_]:
    return (np.abs(pixels - 255 * np.array(GAP_COLOUR)) < 1).all(axis=-1)


def test_a_sky_step_of_a_fifth_of_the_noise_shows(tmp_path: Path) -> None:
    sci = noise((900, 900))
    sci[:, 450:] += 0.2 * SIGMA
    write_preview(write_mosaic(tmp_path / "a_i2d.fits", sci), tmp_path / "a.png")
    grey = sky_pixels(tmp_path / "a.png")[..., 0]
    assert grey[:, 450:].mean() - grey[:, :450].mean() > 4
    assert 30 < np.median(grey) < 130
    assert np.mean(grey == 0) < 0.001


def test_bright_cores_do_not_hide_the_sky(tmp_path: Path) -> None:
    sci = noise((900, 900))
    sci[100:104, 100:104] = 1000.0
    sci[450:550, 450:550] += 30 * SIGMA
    write_preview(write_mosaic(tmp_path / "a_i2d.fits", sci), tmp_path / "a.png")
    grey = sky_pixels(tmp_path / "a.png")[..., 0]
    assert (grey[100:104, 100:104] == 255).all()
    assert np.median(grey[500:540, 500:540]) < 250
    assert np.median(grey[:400, 300:400]) > 30


def test_pixels_without_data_are_blue_and_nothing_else_is(tmp_path: Path) -> None:
    sci = noise((900, 900))
    sci[40:60, 100:300] = np.nan
    write_preview(write_mosaic(tmp_path / "a_i2d.fits", sci), tmp_path / "a.png")
    assert (is_gap(sky_pixels(tmp_path / "a.png")) == ~np.isfinite(sci)).all()


def test_north_and_pixels_are_up_as_in_ds9(tmp_path: Path) -> None:
    sci = noise((900, 900))
    sci[850:, :] += 50 * SIGMA
    write_preview(write_mosaic(tmp_path / "a_i2d.fits", sci), tmp_path / "a.png")
    top_row_of_file = imread(tmp_path / "a.png")[0, :, 0]
    assert top_row_of_file.mean() > 0.7


def test_large_mosaics_shrink_and_small_ones_grow(tmp_path: Path) -> None:
    write_preview(write_mosaic(tmp_path / "a_i2d.fits", noise((3300, 2000))), tmp_path / "a.png")
    assert imread(tmp_path / "a.png").shape[:2] == (1100 + FOOTER, 820)
    write_preview(write_mosaic(tmp_path / "b_i2d.fits", noise((90, 60))), tmp_path / "b.png")
    assert imread(tmp_path / "b.png").shape[:2] == (720 + FOOTER, 820)


def test_weights_are_drawn_from_zero_with_gaps(tmp_path: Path) -> None:
    sci = noise((900, 900))
    sci[:100] = np.nan
    write_weight_preview(write_mosaic(tmp_path / "a_i2d.fits", sci), tmp_path / "w.png")
    pixels = sky_pixels(tmp_path / "w.png")
    assert is_gap(pixels[:100]).all()
    assert not is_gap(pixels[100:]).any()


def test_blocks_average_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "ROWS_AT_A_TIME", 4)
    image = np.arange(70.0).reshape(10, 7)
    image[:3, :3] = np.nan
    image[4, 4] = np.nan
    padded = np.full((12, 9), np.nan)
    padded[:10, :7] = image
    expected = [
        [np.nanmean(padded[r : r + 3, c : c + 3]) if r + c else np.nan for c in (0, 3, 6)] for r in (0, 3, 6, 9)
    ]
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(image)]).writeto(tmp_path / "image.fits")
    with fits.open(tmp_path / "image.fits") as hdus:
        np.testing.assert_allclose(block_mean(hdus[1], 3), expected, rtol=1e-6)


def three_bands(tmp_path: Path) -> dict[str, Path]:
    """Mosaics with one source in each band, the last on pixels twice as large, of different depth."""
    places = {"F150W": 50, "F277W": 130, "F444W": 210}
    paths = {}
    for seed, (band, column) in enumerate(places.items()):
        factor = 2 if band == "F444W" else 1
        depth = 1.0 + seed
        sci = depth * noise((300 // factor, 400 // factor), seed)
        rows, columns = slice(100 // factor, 120 // factor), slice(column // factor, (column + 20) // factor)
        sci[rows, columns] += 100 * depth * SIGMA
        paths[band] = write_mosaic(tmp_path / f"{band}_i2d.fits", sci, band, factor)
    return paths


def test_short_wavelengths_are_blue_and_long_ones_red_on_nested_grids(tmp_path: Path) -> None:
    write_colour_composite(dict(reversed(three_bands(tmp_path).items())), tmp_path / "rgb.png")
    pixels = sky_pixels(tmp_path / "rgb.png")
    zoom = 2
    for column, channel in ((50, 2), (130, 1), (210, 0)):
        source = pixels[104 * zoom : 116 * zoom, (column + 4) * zoom + 10 : (column + 16) * zoom + 10].mean(axis=(0, 1))
        assert np.argmax(source) == channel
        assert source[channel] > 3 * np.median(np.delete(source, channel))


def test_the_empty_sky_is_dark_and_grey_whatever_the_depths(tmp_path: Path) -> None:
    write_colour_composite(three_bands(tmp_path), tmp_path / "rgb.png")
    sky = sky_pixels(tmp_path / "rgb.png")[300:580, 30:780].mean(axis=(0, 1))
    assert np.ptp(sky) < 6
    assert sky.max() < 60


@pytest.mark.parametrize("n", [1, 2, 4, 6])
def test_any_number_of_filters_makes_a_picture(tmp_path: Path, n: int) -> None:
    bands = ["F090W", "F115W", "F150W", "F200W", "F277W", "F444W-F470N"][:n]
    paths = {
        band: write_mosaic(tmp_path / f"{band}_i2d.fits", noise((150, 200), seed), band)
        for seed, band in enumerate(bands)
    }
    write_colour_composite(paths, tmp_path / "rgb.png")
    pixels = sky_pixels(tmp_path / "rgb.png")[:, 20:-20]
    coloured = bool(np.ptp(pixels, axis=-1).max() > 1)
    assert coloured == (n > 1)


LONG = "F444W-F470N"


@pytest.mark.parametrize(
    "bands",
    [["F150W"], ["F115W", "F150W", "F277W"], ["F150W", LONG, LONG], ["F115W", "F277W", "F444W", LONG], [LONG] * 8,
     [f"F{number}W2" for number in range(100, 127)]],
    ids=len,
)  # fmt: skip
def test_no_words_of_the_legend_overprint(tmp_path: Path, bands: list[str]) -> None:
    mosaic = describe(write_mosaic(tmp_path / "a_i2d.fits", noise((150, 200))))
    figure = with_footer(np.zeros((600, 800, 3)), mosaic, choose_zoom(mosaic.shape))
    write_band_names(figure, bands, channel_weights(len(bands)))
    write_text(figure, TEXT_LEFT, SECOND_LINE, "each filter scaled by its noise", "white")
    texts = [*figure.texts, *figure.axes[0].texts]
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    assert [text.get_text() for text in figure.texts if text.get_text() in bands] == bands
    width = figure.get_size_inches()[0] * 100
    for place, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.x1 <= width
        assert box.y0 >= 0
        assert box.y1 <= FOOTER
        assert not any(box.overlaps(other) for other in boxes[:place])


def test_a_place_that_one_filter_missed_is_grey(tmp_path: Path) -> None:
    first, second = noise((300, 400), 1), noise((300, 400), 2)
    first[:100] = np.nan
    first[:50, :50] = second[:50, :50] = np.nan
    paths = {
        "F150W": write_mosaic(tmp_path / "a_i2d.fits", first, "F150W"),
        "F277W": write_mosaic(tmp_path / "b_i2d.fits", second, "F277W"),
    }
    write_colour_composite(paths, tmp_path / "rgb.png")
    pixels = sky_pixels(tmp_path / "rgb.png")[:, 10:-10]
    assert is_gap(pixels[:100, :100]).all()
    assert (np.ptp(pixels[:200, 100:], axis=-1) <= 1).all()
    assert (np.ptp(pixels[200:], axis=-1) > 1).any()


def test_grids_that_do_not_nest_are_refused_by_name(tmp_path: Path) -> None:
    paths = {
        "F150W": write_mosaic(tmp_path / "a_i2d.fits", noise((300, 400))),
        "F444W": write_mosaic(tmp_path / "b_i2d.fits", noise((149, 200)), "F444W", 2),
    }
    with pytest.raises(ValueError, match=r"b_i2d\.fits.*do not nest"):
        write_colour_composite(paths, tmp_path / "rgb.png")


def test_a_composite_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none was given"):
        write_colour_composite({}, tmp_path / "rgb.png")


def test_a_blank_mosaic_is_refused_by_name(tmp_path: Path) -> None:
    path = write_mosaic(tmp_path / "blank_i2d.fits", np.full((20, 20), np.nan))
    with pytest.raises(ValueError, match=r"blank_i2d\.fits: all pixels of SCI lack data"):
        write_preview(path, tmp_path / "a.png")


def test_a_file_without_science_is_refused_by_name(tmp_path: Path) -> None:
    fits.PrimaryHDU().writeto(tmp_path / "other.fits")
    with pytest.raises(ValueError, match=r"other\.fits: no extension SCI"):
        write_preview(tmp_path / "other.fits", tmp_path / "a.png")


def test_a_mosaic_of_one_value_makes_a_picture(tmp_path: Path) -> None:
    write_preview(write_mosaic(tmp_path / "flat_i2d.fits", np.full((200, 200), 0.3)), tmp_path / "a.png")
    assert not is_gap(sky_pixels(tmp_path / "a.png")[:, 60:-60]).any()


def test_equal_mosaics_give_equal_bytes(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    first = write_mosaic(tmp_path / "a_i2d.fits", noise((300, 400)))
    second = write_mosaic(tmp_path / "other" / "b_i2d.fits", noise((300, 400)))
    for draw in (write_preview, write_weight_preview):
        draw(first, tmp_path / "a.png")
        draw(second, tmp_path / "b.png")
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert b"matplotlib" not in (tmp_path / "a.png").read_bytes().lower()


@pytest.mark.parametrize(("band", "expected"), [("F150W", 150), ("F444W-F470N", 470), ("F150W2-F162M", 162)])
def test_a_bands_wavelength_is_its_narrowest_filters(band: str, expected: int) -> None:
    assert wavelength(band) == expected


def test_a_band_without_wavelength_is_refused() -> None:
    with pytest.raises(ValueError, match="CLEAR"):
        wavelength("CLEAR")


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
def test_each_channel_is_a_mean_of_the_filters(n: int) -> None:
    weights = channel_weights(n)
    assert weights.shape == (3, n)
    assert weights.sum(axis=1) == pytest.approx(1.0)
    assert (weights.sum(axis=0) > 0).all()
    assert np.argmax(weights[0]) == n - 1
    assert np.argmax(weights[2]) == 0
