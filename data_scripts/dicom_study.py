"""A simulated cohort as DICOM: a study a patient, its images and one segmentation of them.

`simulate_cohort.py --format dicom` calls it. Sources: DICOM PS3.3 A.3 (CT Image), A.4 (MR Image),
A.6 (Ultrasound Image), A.51 (Segmentation). Every file says that no patient was imaged.
"""

from __future__ import annotations

import json
import uuid
from copy import deepcopy
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import pack_bits
from pydicom.sr.codedict import Code, codes
from pydicom.valuerep import format_number_as_ds

import medlab
from medlab.errors import DataError

_HEADER = json.loads(files("medlab.dicom").joinpath("simulated.json").read_text(encoding="utf-8"))
_NAMESPACE = uuid.UUID("6d65646c-6162-5000-8000-000000000001")
_KINDS = {"CT": ("CT", "CHEST"), "MR": ("MR", "BRAIN"), "ultrasound": ("US", "KIDNEY")}
_STRUCTURES = {
    "kidney": (codes.SCT.AnatomicalStructure, codes.SCT.Kidney),
    "cyst": (codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Cyst),
    "nodule": (codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Nodule),
}
_DRAWN = Code("113076", "DCM", "Segmentation")  # codes.DCM.Segmentation is the modality SEG
SEGMENTATION = 1000  # number of its series: above those of the images


def write_studies(
    cohort: medlab.Cohort, out: Path, structures: list[str], *, key: str = ""
) -> list[str]:
    """Write each patient's images and their segmentation into a folder of his own.

    CT values are stored as HU + 1024. Several channels of a CT image are neighbouring slices, from
    feet to head, and a series of their own; the outlined one is in the middle. The pixel size of
    ultrasound stands in its region too; it has no place in the patient. A segmentation holds, for
    each structure, one frame for each outlined image, empty ones included.

    Args:
        cohort: CT in HU with `extras` thickness and height (mm), 8-bit MR with thickness,
            height_mm, tesla, tr, te and ti (ms), or 8-bit ultrasound; with spacing, masks and
            patients.
        out: the folder, new or empty.
        structures: names of the values of the masks, background first.
        key: with patient and place in the study it fixes every UID: same input, same bytes.

    Returns:
        For each image of the cohort the file, below `out`, of its (outlined) slice.

    Raises:
        DataError: another kind of cohort.
    """
    needed = (cohort.spacing, cohort.masks, cohort.patients)
    if cohort.card.modality not in _KINDS or any(value is None for value in needed):
        raise DataError(
            f"{cohort.card.name}: DICOM is written of CT, MR and ultrasound cohorts with "
            "spacing and masks, such as kidney_us and lung_ct; try --format pictures"
        )
    named = [""] * len(cohort)
    for patient in dict.fromkeys(cohort.patients.tolist()):
        rows = np.flatnonzero(cohort.patients == patient)
        study = _header(cohort, int(rows[0]), f"{key}/{patient}")
        outlined = []
        for number, row in enumerate(rows, start=1):
            slices = [
                _image(study, cohort, int(row), number, k, f"{key}/{patient}")
                for k in range(cohort.images.shape[1])
            ]
            for data in slices:
                folder = out / patient / f"{data.Modality}_{data.SeriesNumber}"
                folder.mkdir(parents=True, exist_ok=True)
                path = folder / f"IM{data.InstanceNumber:05d}.dcm"
                data.save_as(path, enforce_file_format=True, overwrite=False)
                if data is slices[len(slices) // 2]:
                    outlined.append(data)
                    named[row] = path.relative_to(out).as_posix()
        masks = cohort.masks[rows].numpy()
        data = _segmentation(study, outlined, masks, structures, f"{key}/{patient}")
        path = out / patient / f"SEG_{SEGMENTATION}" / "IM00001.dcm"
        path.parent.mkdir()
        data.save_as(path, enforce_file_format=True, overwrite=False)
    return named


def _header(cohort: medlab.Cohort, row: int, key: str) -> Dataset:
    """What all files of a study share."""
    modality, part = _KINDS[cohort.card.modality]
    data = _filled(**_HEADER["all"])
    data.PatientID, data.BodyPartExamined = str(cohort.patients[row]), part
    data.StudyInstanceUID = _uid("study", key)
    if cohort.sites is not None:
        data.InstitutionName = str(cohort.sites[row])
    if "age" in cohort.extras:
        data.PatientAge = f"{int(cohort.extras['age'][row]):03d}Y"
    if "female" in cohort.extras:
        data.PatientSex = "F" if cohort.extras["female"][row] else "M"
    if "right" in cohort.extras:
        data.Laterality = "R" if cohort.extras["right"][row] else "L"
    if modality != "US":
        data.FrameOfReferenceUID = _uid("frame of reference", key)
    else:
        del data.PatientPosition, data.PositionReferenceIndicator
    return data


def _image(
    study: Dataset, cohort: medlab.Cohort, row: int, number: int, k: int, key: str
) -> Dataset:
    """Slice k of an image of the cohort, which is the number-th of its patient."""
    modality, _ = _KINDS[cohort.card.modality]
    values, (high, wide) = cohort.images[row].numpy(), cohort.spacing
    series, instance = (number, k + 1) if len(values) > 1 else (1, number)
    data = _started(study, f"image/{series}/{instance}", key)
    data.Modality, data.SeriesNumber, data.InstanceNumber = modality, series, instance
    data.SeriesDescription, data.SeriesInstanceUID = cohort.card.name, _uid(f"series/{series}", key)
    if modality != "US":
        data.update(_filled(**_HEADER[modality]))
        told = {
            name: float(values[row]) for name, values in cohort.extras.items() if values.ndim == 1
        }
        thick, height = told["thickness"], told["height" if modality == "CT" else "height_mm"]
        rows, columns = values.shape[1:]
        height += thick * (k - len(values) // 2)
        place = -wide * (columns - 1) / 2, -high * (rows - 1) / 2, height
        data.SliceThickness, data.PixelSpacing = _ds(thick), [_ds(high), _ds(wide)]
        data.ImagePositionPatient = [_ds(x) for x in place]
        data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        if modality == "CT":
            data.RescaleSlope, data.RescaleIntercept = 1, -1024
        else:
            del data.RescaleType  # grey levels have no unit
            data.ScanningSequence = ["SE", "IR"] if told["ti"] else "SE"
            data.MRAcquisitionType = "2D"
            data.RepetitionTime, data.EchoTime = _ds(told["tr"]), _ds(told["te"])
            data.InversionTime = _ds(told["ti"]) if told["ti"] else None
            data.MagneticFieldStrength = _ds(told["tesla"])
        stored = (values[k].astype(np.int32) + 1024 * (modality == "CT")).astype("<u2")
    else:
        data.SOPClassUID, data.ImageType = uid.UltrasoundImageStorage, ["DERIVED", "SECONDARY"]
        data.PixelSpacing = [_ds(high), _ds(wide)]  # not asked of ultrasound, but what many read
        data.SequenceOfUltrasoundRegions = [_region(*values.shape[1:], high, wide)]
        stored = values[k]
    bits = 8 * stored.itemsize
    data.set_pixel_data(stored, "MONOCHROME2", bits, generate_instance_uid=False)
    return data


def _region(rows: int, columns: int, high: float, wide: float) -> Dataset:
    """The whole picture as one region of tissue, whose pixels are measured in centimetres."""
    return _filled(
        RegionSpatialFormat=1,  # 2-D
        RegionDataType=1,  # tissue
        RegionFlags=0,
        RegionLocationMinX0=0,
        RegionLocationMinY0=0,
        RegionLocationMaxX1=columns - 1,
        RegionLocationMaxY1=rows - 1,
        PhysicalUnitsXDirection=3,  # cm
        PhysicalUnitsYDirection=3,
        PhysicalDeltaX=wide / 10,
        PhysicalDeltaY=high / 10,
    )


def _segmentation(
    study: Dataset, images: list[Dataset], masks: np.ndarray, structures: list[str], key: str
) -> Dataset:
    """One segment a structure, one frame for each segment and image."""
    data = _started(study, "segmentation", key)
    organisation = _uid("dimensions", key)
    segments = range(1, len(structures))
    frames = np.concatenate([masks == k for k in segments]).astype(np.uint8)
    facts: dict[str, Any] = {
        "SOPClassUID": uid.SegmentationStorage,
        "Modality": "SEG",
        "SeriesNumber": SEGMENTATION,
        "SeriesInstanceUID": _uid("series/segmentation", key),
        "SeriesDescription": "Truth of the simulation",
        "InstanceNumber": 1,
        "ImageType": ["DERIVED", "PRIMARY"],
        "ContentLabel": "TRUTH",
        "ContentDescription": "Truth of the simulation",
        "ContentCreatorName": "",
        "DeviceSerialNumber": "0",
        "SoftwareVersions": medlab.__version__,
        "LossyImageCompression": "00",
        "SegmentationType": "BINARY",
        "SegmentsOverlap": "NO",
        "SegmentSequence": [_segment(k, structures[k]) for k in segments],
        "DimensionOrganizationSequence": [_filled(DimensionOrganizationUID=organisation)],
        "DimensionIndexSequence": [
            _filled(
                DimensionOrganizationUID=organisation,
                DimensionIndexPointer=pointer,
                FunctionalGroupPointer=group,
            )
            for pointer, group in ((0x0062000B, 0x0062000A), (0x00209057, 0x00209111))
        ],  # the segment, and the image's place in the order of the cohort
        "SharedFunctionalGroupsSequence": [_shared(images[0])],
        "PerFrameFunctionalGroupsSequence": [
            _frame(images[i], segment=k, place=i + 1) for k in segments for i in range(len(images))
        ],
        "ReferencedSeriesSequence": [
            _filled(
                SeriesInstanceUID=series,
                ReferencedInstanceSequence=[
                    _reference(image) for image in images if image.SeriesInstanceUID == series
                ],
            )
            for series in dict.fromkeys(image.SeriesInstanceUID for image in images)
        ],
        "NumberOfFrames": len(frames),
        "Rows": images[0].Rows,
        "Columns": images[0].Columns,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 1,
        "BitsStored": 1,
        "HighBit": 0,
        "PixelRepresentation": 0,
        "PixelData": pack_bits(frames),
    }
    data.update(_filled(**facts))
    data["PixelData"].VR = "OB"
    return data


def _segment(number: int, name: str) -> Dataset:
    private = Code(name, "99MEDLAB", name)  # a structure without a code in pydicom's dictionary
    category, kind = _STRUCTURES.get(name, (codes.SCT.AnatomicalStructure, private))
    return _filled(
        SegmentNumber=number,
        SegmentLabel=name,
        SegmentAlgorithmType="AUTOMATIC",
        SegmentAlgorithmName="medlab simulation",
        SegmentedPropertyCategoryCodeSequence=[_coded(category)],
        SegmentedPropertyTypeCodeSequence=[_coded(kind)],
    )


def _shared(image: Dataset) -> Dataset:
    """Size and, but for ultrasound, orientation of all frames."""
    if image.Modality == "US":
        return _filled(PixelMeasuresSequence=[_filled(PixelSpacing=image.PixelSpacing)])
    size = _filled(PixelSpacing=image.PixelSpacing, SliceThickness=image.SliceThickness)
    turn = _filled(ImageOrientationPatient=image.ImageOrientationPatient)
    return _filled(PixelMeasuresSequence=[size], PlaneOrientationSequence=[turn])


def _frame(image: Dataset, *, segment: int, place: int) -> Dataset:
    """Where one frame belongs: its segment, and the image that it was drawn on."""
    source = _reference(image)
    source.PurposeOfReferenceCodeSequence = [
        _coded(codes.DCM.SourceImageForImageProcessingOperation)
    ]
    source.SpatialLocationsPreserved = "YES"
    derived = _filled(DerivationCodeSequence=[_coded(_DRAWN)], SourceImageSequence=[source])
    content = _filled(
        StackID="1", InStackPositionNumber=place, DimensionIndexValues=[segment, place]
    )
    group = _filled(
        FrameContentSequence=[content],
        DerivationImageSequence=[derived],
        SegmentIdentificationSequence=[_filled(ReferencedSegmentNumber=segment)],
    )
    if image.Modality != "US":
        where = _filled(ImagePositionPatient=image.ImagePositionPatient)
        group.PlanePositionSequence = [where]
    return group


def _reference(image: Dataset) -> Dataset:
    return _filled(
        ReferencedSOPClassUID=image.SOPClassUID, ReferencedSOPInstanceUID=image.SOPInstanceUID
    )


def _coded(code: Code) -> Dataset:
    return _filled(
        CodeValue=code.value,
        CodingSchemeDesignator=code.scheme_designator,
        CodeMeaning=code.meaning,
    )


def _started(study: Dataset, name: str, key: str) -> Dataset:
    """A file of the study, without image."""
    data = deepcopy(study)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    data.SOPInstanceUID = _uid(name, key)
    return data


def _filled(**values: Any) -> Dataset:
    data = Dataset()
    for keyword, value in values.items():
        setattr(data, keyword, value)
    return data


def _uid(name: str, key: str) -> str:
    """A UUID-derived UID (PS3.5 B.2) that depends on the two texts alone."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, f'{name}/{key}').int}"


def _ds(value: float) -> str:
    """A decimal string of at most 16 characters, the most that a DS holds."""
    return format_number_as_ds(float(value))
