"""Errors that speak to the user: what was expected, what came, what to do."""

__all__ = [
    "CheckpointError",
    "ClaimError",
    "DataError",
    "DicomError",
    "DownloadError",
    "HashMismatch",
    "MedlabError",
]


class MedlabError(ValueError):
    """Base of every error that medlab raises on bad input."""


class DataError(MedlabError):
    """Images, labels or tables that do not fit together or cannot be read."""


class DicomError(DataError):
    """A DICOM file or series that cannot be read as asked; the message names the file."""


class HashMismatch(DataError):
    """A file whose hash differs from its data card; the message shows both hashes."""


class DownloadError(DataError):
    """A download that failed; the message names the address, the reason and the way round it."""


class CheckpointError(MedlabError):
    """Weights or a checkpoint that cannot be read or does not fit the model."""


class ClaimError(AssertionError):
    """A claim that a notebook states and the computed result does not support."""
