"""What goes back to the archive, a segmentation or a structured report, and a page for people.

The DICOM result carries the patient, since it belongs to the study. The page names nobody.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID, generate_uid
from torch import Tensor

from medlab import plotting
from medlab.deploy.indications import TERMS, Indications
from medlab.deploy.model_file import Packed
from medlab.deploy.study import Study
from medlab.errors import MedlabError

_MAKER = "medlab"
# What highdicom copies from the source; the standard lets these be empty, not absent (type 2)
_TYPE_2 = """PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime StudyID
    AccessionNumber ReferringPhysicianName""".split()


def highdicom() -> Any:
    """The library that writes DICOM results, which is an extra."""
    try:
        import highdicom
        import highdicom.seg
        import highdicom.sr
    except ImportError as error:
        told = 'DICOM results need highdicom: pip install "medlab[deploy]"'
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
    sources = [_completed(source) for source in study.sources]
    return hd.seg.Segmentation(
        source_images=sources,
        pixel_array=mask.numpy().astype(np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=segments,
        content_label="MEDLAB",
        content_description=about.warning[:64],
        **_written_by(packed),
    )


def report(study: Study, found: Mapping[str, float], packed: Packed) -> Dataset:
    """A structured report (TID 1500) with each class's probability in percent."""
    hd, about = highdicom(), packed.indications
    sr, source = hd.sr, _completed(study.sources[0])
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=UID(f"2.25.{int(packed.digest[:32], 16)}"),
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
            source_images=[sr.SourceImageForMeasurementGroup.from_source_image(source)],
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
        evidence=[source], content=content, is_complete=True, is_final=False, **_written_by(packed)
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
    """A source's header with what the standard wants to be there, if only empty."""
    whole = Dataset(header)
    whole.file_meta = header.file_meta
    for keyword in _TYPE_2:
        if keyword not in whole:
            setattr(whole, keyword, "")
    if whole.PatientSex not in ("M", "F", "O"):
        whole.PatientSex = ""
    return whole


def _code(hd: Any, name: str, about: Indications) -> Any:
    """The code of a class: its own, else its name in medlab's private scheme."""
    return hd.sr.CodedConcept(*(about.codes or {}).get(name, (name[:16], "99MEDLAB", name)))


def page(study: Study, packed: Packed, found: Mapping[str, float], mask: Tensor | None) -> str:
    """The readable summary: an HTML page with one picture and its text alternative."""
    about = packed.indications
    told = [f"{name}: {_shown(value, mask)}" for name, value in found.items()]
    png, alt = _picture(study, found, mask)
    rows = {
        "modality": about.modality,
        "body part": about.body_part.lower(),
        "view": f"{about.view}, within {about.tilt:g}°" if mask is not None else about.view,
        "pixel spacing": _range(about.spacing, "mm"),
        "slice spacing": _range(about.slice_spacing, "mm"),
        "age": _range(about.age, "years"),
        "kinds of image": " or ".join(about.image_types),
        "intensities": "; ".join(
            f"{q:.0%} of values below {low:.3g} to {high:.3g}" for q, low, high in about.intensities
        ),
    }
    table = "".join(
        f"<tr><th scope='row'>{html.escape(name)}</th><td>{html.escape(text or 'not asked')}</td></tr>"
        for name, text in rows.items()
    )
    lists = [
        "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"
        for lines in (told, study.unverified or ("nothing",))
    ]
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(about.name)}: result</title>
<style>body {{ max-width: 44em; margin: 2em auto; padding: 0 1em; font-family: sans-serif }}
th {{ text-align: left; padding-right: 1em; vertical-align: top }} img {{ max-width: 100% }}</style>
</head><body>
<h1>{html.escape(about.name)}, version {html.escape(about.version)}</h1>
<p><strong>{html.escape(about.warning)}</strong></p>
<h2>What was found</h2>
{lists[0]}
<img src="data:image/png;base64,{base64.b64encode(png).decode()}" alt="{html.escape(alt)}">
<p>{html.escape(alt)}</p>
<h2>What the model was trained for</h2>
<p>The study met each of these, but for what stands under "not verified".</p>
<table>{table}</table>
<h2>Not verified</h2>
{lists[1]}
<p>The DICOM result beside this page names the patient and the study; this page does not. Computed
again, both say the same but for UIDs and the time of writing. Weights: SHA-256
{packed.digest[:16]}…</p>
</body></html>
"""


def _shown(value: float, mask: Tensor | None) -> str:
    return f"probability {value:.1%}" if mask is None else f"{value:.1f} ml"


def _range(ends: tuple[float, float] | None, unit: str) -> str:
    return f"{ends[0]:g} to {ends[1]:g} {unit}" if ends else ""


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
