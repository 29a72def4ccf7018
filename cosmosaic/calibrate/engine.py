"""The engine that made a count rate: a keyword of its primary header, which later files inherit."""

from typing import Any

KEYWORD = "CMSTAGE1"


def note_engine(model: Any, engine: str, why: str = "") -> None:
    """Write the engine of Stage 1 into a data model's header, and the reason if it is not the one in the settings."""
    comment = f"engine of Stage 1: {why}" if why else "engine of Stage 1"
    cards = model.instance.setdefault("extra_fits", {}).setdefault("PRIMARY", {}).setdefault("header", [])
    cards.append([KEYWORD, engine, comment[: 80 - len(f"{KEYWORD}= '{engine:8}' / ")]])


def engine_of(model: Any) -> str | None:
    """Return the engine of Stage 1 in a data model's header; None if the file was not made by cosmosaic."""
    cards = model.instance.get("extra_fits", {}).get("PRIMARY", {}).get("header", [])
    return next((str(card[1]) for card in cards if card[0] == KEYWORD), None)
