"""A trained model where it is needed: a DICOM study in, a DICOM result out, or a refusal by name.

    about = deploy.Indications(name="lung mask", modality="CT", body_part="CHEST", …)
    deploy.save(model, "lungs.safetensors", classes=("background", "lung"), indications=about)
    result = deploy.predict_study("study", "lungs.safetensors", "out")

The last line is the command `python -m medlab predict study --model lungs.safetensors --out out`.
"""

from medlab.deploy.indications import Indications, StudyRefused
from medlab.deploy.model_file import Packed, load, save
from medlab.deploy.results import Found
from medlab.deploy.run import predict_study
from medlab.deploy.study import Study, open_study

__all__ = [
    "Found",
    "Indications",
    "Packed",
    "Study",
    "StudyRefused",
    "load",
    "open_study",
    "predict_study",
    "save",
]
