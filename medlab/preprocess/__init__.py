"""What happens to an image before the first layer: window, normalise, resample, crop, denoise.

Every function takes a tensor or an array and gives back the same kind, on the same device; the
last two axes are rows and columns, and any axes before them are channels and images.
"""

from medlab.preprocess.grey_levels import clahe, gamma, normalise, window
from medlab.preprocess.grids import crop_pad, resample
from medlab.preprocess.restoration import bias_field, correct_bias, denoise

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
