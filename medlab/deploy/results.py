"""What goes back to the archive, a segmentation or a structured report, and a page for people.

The DICOM result carries the patient, since it belongs to the study. The page names nobody.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from string import Template
from typing import Any
from zlib import crc32

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID, generate_uid
from torch import Tensor

from medlab import plotting
from medlab.deploy.indications import TERMS
from medlab.deploy.model_file import Packed
from medlab.deploy.study import Study
from medlab.dicom.source import refusing
from medlab.errors import DicomError, MedlabError

_MAKER = "medlab"
# What highdicom copies from the source; the standard lets these be empty, not absent (type 2)
_TYPE_2 = """PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime StudyID
    AccessionNumber ReferringPhysicianName SliceThickness""".split()


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a model found in a study.

    Attributes:
        found: ml of each class but the background, or each class's probability.
        unverified: what the study's headers do not tell, so that it was not checked.
        mask: uint8 (D, H, W), the class of each voxel in the order of `read_series`; None for a
            classifier.
    """

    found: dict[str, float]
    unverified: tuple[str, ...]
    mask: Tensor | None = field(repr=False)

    def __str__(self) -> str:
        return "\n".join([*self.lines, *(f"not verified: {one}" for one in self.unverified)])

    @property
    def lines(self) -> list[str]:
        """What was found, a line for each class."""
        number = "{}: probability {:.1%}" if self.mask is None else "{}: {:.1f} ml"
        return [number.format(*one) for one in self.found.items()]


def highdicom() -> Any:
    """The library that writes DICOM results, which is an extra."""
    try:
        import highdicom
    except ImportError as error:
        told = "DICOM results need highdicom: pip install highdicom"
        raise MedlabError(told) from error
    return highdicom


@refusing("the header", "write a result")  # highdicom asks much of a header
def dicom_result(study: Study, result: Found, packed: Packed) -> Dataset:
    """A segmentation of the mask's classes 1, 2, …; without a mask, a structured report."""
    sources = _sources(study)
    if result.mask is None:
        return _report(sources[0], result.found, packed)
    return _segmentation(sources, result.mask, packed)


def _segmentation(sources: list[Dataset], mask: Tensor, packed: Packed) -> Dataset:
    """A DICOM segmentation of all classes but the background."""
    hd, about = highdicom(), packed.indications
    method = hd.AlgorithmIdentificationSequence(
        name=about.name,
        version=about.version,
        family=codes.DCM.ArtificialIntelligence,
        source=_MAKER,
        parameters={"warning": about.warning},
    )
    segments = [
        hd.seg.SegmentDescription(
            segment_number=k,
            segment_label=name,
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=_code(hd, name),
            algorithm_type="AUTOMATIC",
            algorithm_identification=method,
            anatomic_regions=[hd.sr.CodedConcept(*TERMS["body_parts"][about.body_part]["code"])],
        )
        for k, name in enumerate(packed.classes[1:], 1)
    ]
    return hd.seg.Segmentation(
        source_images=sources,
        pixel_array=mask.numpy(),
        segmentation_type="BINARY",
        segment_descriptions=segments,
        content_label="MEDLAB",
        content_description="Not for clinical use",
        **_written_by(packed),
    )


def _report(image: Dataset, found: dict[str, float], packed: Packed) -> Dataset:
    """A structured report (TID 1500) with each class's probability in percent."""
    hd, about = highdicom(), packed.indications
    sr = hd.sr
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=UID(f"2.25.{int(packed.digest[:32], 16)}"),  # other weights are another device
        name=about.name,
        manufacturer_name=_MAKER,
        model_name=f"{type(packed.model).__name__}, version {about.version}",
    )
    observer = sr.ObserverContext(codes.DCM.Device, device)
    method = sr.AlgorithmIdentification(
        name=about.name, version=about.version, parameters=[about.warning]
    )
    site = sr.FindingSite(sr.CodedConcept(*TERMS["body_parts"][about.body_part]["code"]))
    groups = [
        sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(uid=generate_uid(None), identifier=name),
            finding_type=_code(hd, name),
            algorithm_id=method,
            finding_sites=[site],
            measurements=[
                sr.Measurement(
                    name=codes.DCM.CertaintyOfFinding,
                    value=round(100 * probability, 4),
                    unit=codes.UCUM.Percent,
                )
            ],
            source_images=[sr.SourceImageForMeasurementGroup.from_source_image(image)],
        )
        for name, probability in found.items()
    ]
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    return sr.ComprehensiveSR(
        evidence=[image], content=content, is_complete=True, **_written_by(packed)
    )


def _written_by(packed: Packed) -> dict[str, Any]:
    about = packed.indications
    return {
        "series_instance_uid": generate_uid(None),
        "series_number": 9000,
        "sop_instance_uid": generate_uid(None),
        "instance_number": 1,
        "manufacturer": _MAKER,
        "manufacturer_model_name": about.name,
        "software_versions": about.version,
        "device_serial_number": packed.digest[:16],
        "series_description": f"Not for clinical use: {about.name} {about.version}"[:64],
    }


def _sources(study: Study) -> list[Dataset]:
    """The images' headers in Unicode, with what the standard wants to be there, if only empty."""
    whole = [deepcopy(header) for header in study.sources]
    for header in whole:
        header.SpecificCharacterSet = "ISO_IR 192"
        for keyword in _TYPE_2:
            if keyword not in header:
                setattr(header, keyword, None)
        if header.PatientSex not in ("M", "F", "O"):
            header.PatientSex = None
    if len({header.SOPInstanceUID for header in whole}) < len(whole):
        raise DicomError("the header: cannot write a result: images share one SOPInstanceUID")
    return whole


def _code(hd: Any, name: str) -> Any:
    """The code of a class, in a private scheme that follows its name."""
    return hd.sr.CodedConcept(f"{crc32(name.encode()):08X}", "99MEDLAB", name)


def page(study: Study, result: Found, packed: Packed) -> str:
    """The readable summary: an HTML page with one picture and its text alternative."""
    about = packed.indications
    png, alt = _picture(study, result)
    return Template((files(__package__) / "summary.html").read_text("utf-8")).substitute(
        name=escape(f"{about.name}, version {about.version}"),
        warning=escape(about.warning),
        found=_items(result.lines),
        alt=escape(alt),
        png=base64.b64encode(png).decode(),
        trained_for=f"{about.modality}, {about.body_part}, {about.view}",
        unverified=_items(study.unverified or ["nothing"]),
        digest=packed.digest[:16],
    )


def _items(lines: Iterable[str]) -> str:
    return "".join(f"<li>{escape(line)}</li>" for line in lines)


def _picture(study: Study, result: Found) -> tuple[bytes, str]:
    """The radiograph, or the slice with most of the mask in its outline; and what is to be seen."""
    mask, k, alt = result.mask, 0, "The radiograph as the model was given it."
    if mask is not None:
        k = int((mask > 0).sum((1, 2)).argmax())
        share = float((mask[k] > 0).float().mean())
        alt = f"Slice {k + 1} of {len(mask)}, the one with most found, in grey; the outline of "
        alt += f"{', '.join(result.found)} encloses {share:.0%} of the picture."
    image = study.voxels[k]
    low, high = np.quantile(image.numpy(), [0.01, 0.99])
    fig = plotting.images(
        [image],
        masks=None if mask is None else [mask[k]],
        mask_name="found",
        spacing=study.spacing[1:] if np.isfinite(study.spacing[1:]).all() else None,
        limits=(low, high),
        size=4.0,
    )
    return plotting.png(fig), alt
