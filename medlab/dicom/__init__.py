"""DICOM: read a file, a series or a cine, write a study, take out what identifies a patient.

    image = dicom.read_image("chest.dcm")          # one file: pixels in real units, spacing
    volume = dicom.read_series("folder")           # slices → (D, H, W) in mm and HU
    cine = dicom.read_cine("folder")               # one slice at many times
    dicom.write_series(volume, "study", seed=0)    # a valid series of a simulated patient
    dicom.identifiers("chest.dcm")                 # what in the header identifies the patient

Whatever is wrong with a file leaves here as one `medlab.errors.DicomError` that names it.
"""

from medlab.dicom.image import DicomImage, read_image
from medlab.dicom.privacy import Identifier, deidentify, identifiers
from medlab.dicom.series import Volume, read_cine, read_series
from medlab.dicom.write import write_series

__all__ = [
    "DicomImage",
    "Identifier",
    "Volume",
    "deidentify",
    "identifiers",
    "read_cine",
    "read_image",
    "read_series",
    "write_series",
]
