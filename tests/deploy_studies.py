"""Studies for the tests of `medlab.deploy`: one that fits, and the ways to be the wrong one.

`python -m tests.deploy_studies` prints what is said to each wrong one.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import torch
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ComprehensiveSRStorage,
    DigitalXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    HTJ2KLossless,
    MRImageStorage,
    SegmentationStorage,
)
from pydicom.uid import (
    DigitalXRayImageStorageForProcessing as ForProcessing,
)
from pydicom.uid import (
    SecondaryCaptureImageStorage as SecondaryCapture,
)

from medlab import deploy
from medlab.models import SmallCNN, UNet
from tests.dicom_files import image, save, stack, uid

CT = {
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    "BodyPartExamined": "CHEST",
    "BurnedInAnnotation": "NO",
    "PatientAge": "060Y",
    "SeriesNumber": 3,
}
DX = {
    "SOPClassUID": DigitalXRayImageStorageForPresentation,
    "Modality": "DX",
    "ImageType": ["DERIVED", "PRIMARY"],
    "BodyPartExamined": "CHEST",
    "BurnedInAnnotation": "NO",
    "PatientOrientation": ["L", "F"],
    "ViewPosition": "PA",
    "ImagerPixelSpacing": [0.4, 0.4],
    "SeriesNumber": 1,
}
TERMS_OF_PATIENT = {
    "PatientName": "Doe^Jane",
    "PatientID": "1234",
    "PatientBirthDate": "19660102",
    "PatientSex": "F",
    "AccessionNumber": "A-77",
    "StudyID": "S-5",
    "StudyDate": "20260301",
    "StudyTime": "101112",
    "ReferringPhysicianName": "Roe^Richard",
    "StudyDescription": "Chest",
}
LUNGS = deploy.Indications(
    name="bright voxels",
    version="1.2",
    trained_on="simulated patients",
    modality="CT",
    body_part="CHEST",
    view="axial",
    spacing=(0.5, 1.0),
    slice_spacing=(1, 3),
    coverage=9,
    age=(18, 90),
    contrast=False,
    window=(0, 2000),
    intensities=((0.05, -1000, -800), (0.95, 800, 1000)),
)
FILMS = deploy.Indications(
    name="pneumonia",
    version="2",
    trained_on="simulated patients",
    modality="DX",
    body_part="CHEST",
    view="PA",
    spacing=(0.1, 1.0),
    image_types=("ORIGINAL\\PRIMARY", "DERIVED\\PRIMARY"),
    size=(24, 24),
    intensities=((0.25, 0.1, 0.4), (0.5, 0.35, 0.65)),
)


def brighter(than: float) -> UNet:
    """A U-Net that calls every voxel above a value "lung", and looks at no other voxel."""
    net = UNet(1, 2, 1, depth=1)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if name.startswith(("up", "classifier")) or "down.1" in name:
                weight.zero_()
            elif weight.ndim > 2:
                weight.zero_()
                weight[0, 0, 1, 1] = 1
        net.classifier.weight[1, 0], net.classifier.bias[1] = 1000, -1000 * than
    return net.eval()


def model_file(folder: Path, about: deploy.Indications = LUNGS, net=None) -> Path:
    """A model's file: the threshold 0.5 for volumes, random weights for radiographs."""
    torch.manual_seed(0)
    if about.modality == "DX":
        net, classes = net or SmallCNN(1, 2, 4), ("healthy", "pneumonia")
    else:
        net, classes = net or brighter(0.5), ("background", "lung")
    deploy.save(net, folder / "model.safetensors", classes=classes, indications=about)
    return folder / "model.safetensors"


def chest(folder: Path, **options) -> np.ndarray:
    """A study that `LUNGS` takes; its stored values, which are HU, in order along the normal."""
    return stack(folder, **{"depth": 6, "shape": (20, 24), **CT, **options})


def sheared(folder: Path, degrees: float, **options) -> np.ndarray:
    """As a tilted gantry makes them: each slice upright, and shifted against the last."""

    def change(k: int, data: pydicom.Dataset) -> None:
        x, y, z = data.ImagePositionPatient
        data.ImagePositionPatient = [x, round(y + np.tan(np.radians(degrees)) * z, 9), z]

    return chest(folder, change=change, **options)


def film(path: Path, values: np.ndarray | None = None, **header) -> np.ndarray:
    """A radiograph that `FILMS` takes, brighter to the right and below; its stored values."""
    if values is None:
        ramp = np.add.outer(np.linspace(0, 2000, 40), np.linspace(0, 2000, 48))
        values = ramp.astype(np.uint16)
    options = {**DX, "SOPInstanceUID": uid(path.name), **header}
    options = {keyword: value for keyword, value in options.items() if value is not None}
    save(image(values, BitsStored=12, HighBit=11, **options), path)
    return values


def _enhanced(folder: Path) -> None:
    """A study of one file of many frames."""
    values = np.zeros((5, 8, 9), np.int16)
    save(image(values, **CT, SOPClassUID=EnhancedCTImageStorage), folder / "e.dcm")


def _slices(**header) -> Callable[[Path], object]:
    return lambda folder: chest(folder, **header)


def _changed(keyword: str, value: object, which: int | None = None) -> Callable[[Path], object]:
    def change(k: int, data: pydicom.Dataset) -> None:
        if which in (None, k):
            setattr(data, keyword, value)

    return lambda folder: chest(folder, change=change)


def _twice(**second) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        chest(folder / "a")
        chest(folder / "b", **{"SeriesInstanceUID": uid("b"), "SeriesNumber": 4, **second})

    return make


def _result(folder: Path) -> None:
    save(
        image(np.zeros((4, 4), np.uint8), SOPClassUID=SegmentationStorage, Modality="SEG"),
        folder / "a.dcm",
    )
    report = image(np.zeros((4, 4), np.uint8), SOPClassUID=ComprehensiveSRStorage, Modality="SR")
    for keyword in ("Rows", "Columns", "PixelData"):
        del report[keyword]
    save(report, folder / "b.dcm")


def _cut(folder: Path) -> None:
    chest(folder)
    path = sorted(folder.iterdir())[2]
    path.write_bytes(path.read_bytes()[:-300])


def _compressed(folder: Path) -> None:
    chest(folder)
    for path in folder.iterdir():
        data = pydicom.dcmread(path)
        data.PixelData = encapsulate([b"\xff\x4f\xff\x51" + bytes(200)])
        data["PixelData"].VR = "OB"
        data.file_meta.TransferSyntaxUID = HTJ2KLossless
        data.save_as(path, enforce_file_format=True)


def _empty(folder: Path) -> None:
    folder.mkdir(parents=True)


def _letter(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "letter.txt").write_text("no image")


def _without_rescale(folder: Path) -> None:
    def change(k: int, data: pydicom.Dataset) -> None:
        del data.RescaleSlope, data.RescaleIntercept

    chest(folder, change=change)


def _without_intercept(folder: Path) -> None:
    """As a scanner stores it, HU + 1024, and the intercept lost on the way."""

    def change(k: int, data: pydicom.Dataset) -> None:
        values = np.frombuffer(data.PixelData, "<i2") + 1024
        data.PixelData = values.astype("<i2").tobytes()

    chest(folder, change=change)


def _films(**header) -> Callable[[Path], object]:
    return lambda folder: film(folder / "a.dcm", **header)


def _dark_bright(folder: Path) -> None:
    """MONOCHROME1 is written in the header, but the values are not so: a vendor's mistake."""
    values = film(folder / "a.dcm")
    film(folder / "a.dcm", (values.astype(float) ** 6 / 4000**5).astype(np.uint16))


def _two_films(folder: Path) -> None:
    film(folder / "a.dcm")
    film(folder / "b.dcm")


TURNED = {"coronal": [1, 0, 0, 0, 0, -1], "sagittal": [0, 1, 0, 0, 0, -1]}
TILTED = [1, 0, 0, 0, float(np.cos(np.radians(20))), float(np.sin(np.radians(20)))]
SWAPPED = [0, 1, 0, 1, 0, 0]
COLOUR = np.zeros((40, 48, 3), np.uint8)

# name → (reason, indications, how to make it)
WRONG: dict[str, tuple[str, deploy.Indications, Callable[[Path], object]]] = {
    "MR for CT": ("modality", LUNGS, _slices(Modality="MR", SOPClassUID=MRImageStorage)),
    "secondary capture": (
        "kind of image",
        LUNGS,
        _slices(SOPClassUID=SecondaryCapture),
    ),
    "many frames": ("kind of image", LUNGS, _enhanced),
    "localizer": ("localizer", LUNGS, _slices(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])),
    "reformatted": ("image type", LUNGS, _slices(ImageType=["DERIVED", "SECONDARY", "MPR"])),
    "burnt-in text": ("burnt-in text", LUNGS, _slices(BurnedInAnnotation="YES")),
    "head": ("body part", LUNGS, _slices(BodyPartExamined="HEAD")),
    "unknown body part": ("body part", LUNGS, _slices(BodyPartExamined="MUELLER")),
    "child": ("age", LUNGS, _slices(PatientAge="018M")),
    "contrast agent": ("contrast", LUNGS, _slices(ContrastBolusAgent="Iohexol")),
    "coded agent": ("contrast", LUNGS, _slices(ContrastBolusAgentSequence=[Dataset()])),
    "coronal": ("plane", LUNGS, _slices(orientation=TURNED["coronal"])),
    "sagittal": ("plane", LUNGS, _slices(orientation=TURNED["sagittal"])),
    "rows and columns swapped": ("tilt", LUNGS, _slices(orientation=SWAPPED)),
    "tilted by 20°": ("tilt", LUNGS, _slices(orientation=TILTED)),
    "pixels too coarse": ("pixel spacing", LUNGS, _slices(spacing=(0.7, 1.3))),
    "pixels too fine": ("pixel spacing", LUNGS, _slices(spacing=(0.3, 0.7))),
    "slices too far apart": ("slice spacing", LUNGS, _slices(step=5.0)),
    "too few slices": ("coverage", LUNGS, _slices(depth=3)),
    "too short, sheared": ("coverage", LUNGS, lambda f: sheared(f, 9.9, step=1.78)),
    "too short": ("coverage", LUNGS, _slices(step=1.6)),
    "missing slice": ("missing slices", LUNGS, lambda f: chest(f, change=lambda k, d: k != 3)),
    "one slice": ("missing slices", LUNGS, _slices(depth=1)),
    "slice twice": ("doubled slices", LUNGS, _changed("ImagePositionPatient", [-10, 5, 30], 2)),
    "sizes differ": ("mixed series", LUNGS, _changed("PixelSpacing", [0.9, 0.9], 2)),
    "two patients": ("several patients", LUNGS, _changed("PatientID", "5678", 2)),
    "two studies": ("several studies", LUNGS, _changed("StudyInstanceUID", uid("other"), 2)),
    "two series that fit": ("several series", LUNGS, _twice()),
    "no rescale": ("units", LUNGS, _without_rescale),
    "lost intercept": ("intensities", LUNGS, _without_intercept),
    "contrast too hard": ("intensities", LUNGS, _changed("RescaleSlope", 2)),
    "empty folder": ("no study", LUNGS, _empty),
    "no folder": ("no study", LUNGS, lambda folder: None),
    "a letter": ("no study", LUNGS, _letter),
    "results only": ("result", LUNGS, _result),
    "truncated file": ("damaged file", LUNGS, _cut),
    "no decoder": ("no decoder", LUNGS, _compressed),
    "CT for a radiograph": ("modality", FILMS, _slices()),
    "for processing": (
        "kind of image",
        FILMS,
        _films(SOPClassUID=ForProcessing),
    ),
    "lateral": ("view", FILMS, _films(ViewPosition="LL")),
    "no view": ("view", FILMS, _films(ViewPosition="")),
    "lying film": ("orientation", FILMS, _films(PatientOrientation=["F", "L"])),
    "mirrored film": ("orientation", FILMS, _films(PatientOrientation=["R", "F"])),
    "film without spacing": ("pixel spacing", FILMS, _films(ImagerPixelSpacing=None)),
    "colour": ("kind of image", FILMS, lambda f: save(image(COLOUR, **DX), f / "a.dcm")),
    "curve of grey levels": ("intensities", FILMS, _dark_bright),
    "two films that fit": ("several series", FILMS, _two_films),
}


def main() -> None:
    """Print every refusal."""
    import tempfile

    for name, (_, about, make) in WRONG.items():
        folder = Path(tempfile.mkdtemp()) / "study"
        make(folder)
        try:
            deploy.open_study(folder, about)
            print(f"{name}: TAKEN")
        except deploy.StudyRefused as error:
            print(f"{name}: {error}")
        shutil.rmtree(folder.parent)


if __name__ == "__main__":
    main()
