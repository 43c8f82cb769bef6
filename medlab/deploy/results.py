"""What goes back to the archive, a segmentation or a structured report, and a page for people.

The DICOM result carries the patient, since it belongs to the study. The page names nobody.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from copy import deepcopy
from html import escape
from importlib.resources import files
from string import Template
from typing import Any
from zlib import crc32

import numpy as np
import torch
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID, generate_uid
from torch import Tensor

from medlab import plotting
from medlab.deploy.indications import AXES, TERMS, Indications
from medlab.deploy.model_file import Packed
from medlab.deploy.study import Study
from medlab.errors import MedlabError

_MAKER = "medlab"
# What highdicom copies from the source; the standard lets these be empty, not absent (type 2)
_TYPE_2 = """PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime StudyID
    AccessionNumber ReferringPhysicianName SliceThickness""".split()


def highdicom() -> Any:
    """The library that writes DICOM results, which is an extra."""
    try:
        import highdicom
        import highdicom.seg
        import highdicom.sr
    except ImportError as error:
        told = "DICOM results need highdicom: pip install highdicom"
        raise MedlabError(told) from error
    return highdicom


def segmentation(study: Study, mask: Tensor, packed: Packed) -> Dataset:
    """A DICOM segmentation of classes 1, 2, … in a mask (D, H, W) on the study's voxels."""
    hd, about = highdicom(), packed.indications
    method = hd.AlgorithmIdentificationSequence(
        name=about.name,
        version=about.version,
        family=codes.DCM.ArtificialIntelligence,
        source=_MAKER,
    )
    segments = [
        hd.seg.SegmentDescription(
            segment_number=k,
            segment_label=name,
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=_code(hd, name, about),
            algorithm_type="AUTOMATIC",
            algorithm_identification=method,
            anatomic_regions=[hd.sr.CodedConcept(*TERMS["body_parts"][about.body_part]["code"])],
        )
        for k, name in enumerate(packed.classes[1:], 1)
    ]
    sources, frames = [_completed(source) for source in study.sources], mask
    if "PerFrameFunctionalGroupsSequence" in sources[0]:  # all slices from one file
        groups = sources[0].PerFrameFunctionalGroupsSequence
        places = np.array([g.PlanePositionSequence[0].ImagePositionPatient for g in groups], float)
        order = np.argsort(places @ AXES[about.view][0])
        frames = torch.empty_like(mask)
        frames[order.copy()] = mask.flip(0) if study.axes[0][1] else mask
    return hd.seg.Segmentation(
        source_images=sources,
        pixel_array=frames.numpy(),
        segmentation_type="BINARY",
        segment_descriptions=segments,
        content_label="MEDLAB",
        content_description=about.warning[:64],
        **_written_by(packed),
    )


def report(study: Study, found: Mapping[str, float], packed: Packed) -> Dataset:
    """A structured report (TID 1500) with each class's probability in percent."""
    hd, about = highdicom(), packed.indications
    sr, sources = hd.sr, [_completed(source) for source in study.sources]
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
            finding_type=_code(hd, name, about),
            algorithm_id=method,
            finding_sites=[site],
            measurements=[
                sr.Measurement(
                    name=codes.DCM.CertaintyOfFinding,
                    value=round(100 * probability, 4),
                    unit=codes.UCUM.Percent,
                )
            ],
            source_images=[
                sr.SourceImageForMeasurementGroup.from_source_image(one) for one in sources
            ],
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
        evidence=sources, content=content, is_complete=True, **_written_by(packed)
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
        "series_description": f"{about.name} {about.version}: not for clinical use",
    }


def _completed(header: Dataset) -> Dataset:
    """A source's header in Unicode, with what the standard wants to be there, if only empty."""
    whole = deepcopy(header)
    whole.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _TYPE_2:
        if keyword not in whole:
            setattr(whole, keyword, "" if keyword != "SliceThickness" else None)
    if whole.PatientSex not in ("M", "F", "O"):
        whole.PatientSex = ""
    return whole


def _code(hd: Any, name: str, about: Indications) -> Any:
    """The code of a class: its own, else one of medlab's private scheme that follows its name."""
    private = (f"{crc32(name.encode()):08X}", "99MEDLAB", name)
    return hd.sr.CodedConcept(*(about.codes or {}).get(name, private))


def page(study: Study, packed: Packed, found: Mapping[str, float], mask: Tensor | None) -> str:
    """The readable summary: an HTML page with one picture and its text alternative."""
    about = packed.indications
    png, alt = _picture(study, found, mask)
    ranges = {"pixel spacing, mm": about.spacing, "slice spacing, mm": about.slice_spacing}
    ranges["age, years"] = about.age
    rows = {
        "modality": about.modality,
        "body part": about.body_part,
        "view": about.view if about.modality == "DX" else f"{about.view}, within {about.tilt:g}°",
        "kind of image": " or ".join(about.image_types),
        **{name: "{:g} to {:g}".format(*ends) for name, ends in ranges.items() if ends},
        **{f"{q:.0%} of values below": f"{a:.4g} to {b:.4g}" for q, a, b in about.intensities},
    }
    asked = [f"{escape(k)}</th><td>{escape(v)}" for k, v in rows.items()]
    return Template((files(__package__) / "summary.html").read_text("utf-8")).substitute(
        name=escape(f"{about.name}, version {about.version}"),
        warning=escape(about.warning),
        found="".join(f"<li>{escape(line)}</li>" for line in told(found, mask)),
        alt=escape(alt),
        png=base64.b64encode(png).decode(),
        asked="".join(f"<tr><th scope=row>{row}</td></tr>" for row in asked),
        unverified="".join(f"<li>{escape(line)}</li>" for line in study.unverified or ["nothing"]),
        digest=packed.digest[:16],
    )


def told(found: Mapping[str, float], mask: Tensor | None) -> list[str]:
    """What was found, a line for each class."""
    number = "{}: probability {:.1%}" if mask is None else "{}: {:.1f} ml"
    return [number.format(*one) for one in found.items()]


def _picture(study: Study, found: Mapping[str, float], mask: Tensor | None) -> tuple[bytes, str]:
    """The slice with most of the mask in its outline, or the radiograph; and what is to be seen."""
    voxels = study.voxels
    k = len(voxels) // 2 if mask is None else int((mask > 0).sum((1, 2)).argmax())
    low, high = np.quantile(voxels[k].numpy(), [0.01, 0.99])
    where = f"Slice {k + 1} of {len(voxels)}" if len(voxels) > 1 else "The radiograph"
    if mask is None:
        most = max(found, key=lambda name: found[name])
        alt = f"{where} as the model was given it; of its answers, {most} has most probability"
        alt += f", {found[most]:.1%}."
    elif not mask.any():
        alt = f"{where}, without an outline: the model found nothing in any slice."
    else:
        share = float((mask[k] > 0).float().mean())
        names = ", ".join(found)
        alt = f"{where}, the one with most found, in grey; the outline of {names} encloses "
        alt += f"{share:.0%} of the picture."
    outline = None if mask is None else [mask[k]]
    step = study.spacing[1:] if np.isfinite(study.spacing[1:]).all() else None
    fig = plotting.images(
        [voxels[k]], masks=outline, mask_name="found", spacing=step, limits=(low, high), size=4.0
    )
    return plotting.png(fig), alt
