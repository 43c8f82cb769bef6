"""What happens to an image before the first layer: window, normalise, resample, crop, denoise.

Every function takes a tensor or an array and gives back the same kind, on the same device; the
last two axes are rows and columns, and any axes before them are channels and images.
"""

from medlab.preprocess.bias import bias_field, correct_bias
from medlab.preprocess.contrast import clahe, gamma
from medlab.preprocess.crop_pad import crop_pad
from medlab.preprocess.denoise import denoise
from medlab.preprocess.normalise import normalise
from medlab.preprocess.resample import resample
from medlab.preprocess.window import window

__all__ = [
    "bias_field",
    "clahe",
    "correct_bias",
    "crop_pad",
    "denoise",
    "gamma",
    "normalise",
    "resample",
    "window",
]
