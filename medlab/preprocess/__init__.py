"""What happens to an image before the first layer: window, normalise, resample, crop, denoise.

Every function takes a tensor or an array and gives back the same kind, on the same device; the last
two axes are rows and columns, any axes before them channels and images. Images that are empty, that
are no numbers or (but for `crop_pad` and labels) hold NaN or infinity raise a DataError, as do
options out of their range. Results are float32, or float64 if the image is, unless said otherwise.
"""

from medlab.preprocess.grey_levels import normalise, window
from medlab.preprocess.grids import crop_pad, resample
from medlab.preprocess.restoration import denoise

__all__ = ["crop_pad", "denoise", "normalise", "resample", "window"]
