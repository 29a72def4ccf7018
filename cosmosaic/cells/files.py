"""The files that cells lie in."""

from cosmosaic.steps.files import File


class Cells(File, suffix=".npz"):
    """Means over cells of one exposure."""


class SourceMaskImage(File):
    """A user's mask of sources, 0 on the sky."""
