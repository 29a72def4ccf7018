"""What a product's header says of its making, and nothing that differs between equal runs."""

from importlib.metadata import version
from pathlib import Path

from astropy.io import fits

from cosmosaic.records import Reference, StoredObject

NO_DATE = "1970-01-01T00:00:00"
"""jwst writes the clock time into DATE; equal work must give equal bytes."""

SHA_LENGTH = 16


def stamp(path: Path, step: str, key: str, inputs: tuple[StoredObject, ...], references: tuple[Reference, ...]) -> None:
    """Write step, key, inputs, references and software versions into a FITS file's primary header.

    DATE, the clock time of writing, becomes a constant. Files of other formats are left as they are.
    """
    if path.suffix != ".fits":
        return
    with fits.open(path, mode="update", memmap=True) as hdus:
        header = hdus[0].header
        header["DATE"] = (NO_DATE, "not the time of writing: equal work, equal bytes")
        header["CMSTEP"] = (step, "cosmosaic step that made this file")
        header["CMKEY"] = (key, "key of the step: parameters and inputs")
        header["CMVER"] = (version("cosmosaic"), "version of cosmosaic")
        header["CMJWST"] = (version("jwst"), "version of the jwst package")
        header["CMDRIZ"] = (version("drizzle"), "version of the drizzle package")
        for stored in inputs:
            header.add_history(f"input {stored.name} sha256 {stored.sha256[:SHA_LENGTH]}")
        for reference in references:
            header.add_history(f"reference {reference.kind} {reference.name} sha256 {reference.sha256[:SHA_LENGTH]}")
