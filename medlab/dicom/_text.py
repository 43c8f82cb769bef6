"""Where text is burnt into a picture; what it says is never told.

The finder is the package rapidocr (PP-OCRv6), on this machine and without a network. It sees each
frame three times: with every grey level made as common as any other, in its full range, and
without the darkest and brightest hundredth, since text may be nearly as dark as what lies behind.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import find_objects, label

from medlab.errors import DicomError, progress


def text_areas(values: np.ndarray, path: Path) -> list[tuple[slice, slice]]:
    """Rows and columns with text in any frame of (F, H, W) grey or (F, H, W, 3) RGB values.

    One letter, a side marker, is no text, nor are two digits, a ruler: organs look like them.
    """
    try:
        finder = _finder()
    except ImportError as error:
        advice = "look and set BurnedInAnnotation to NO, or pip install rapidocr onnxruntime"
        raise DicomError(f"{path}: nothing to find text in pictures with: {advice}") from error
    drawn = np.zeros(values.shape[1:3], bool)
    for frame in progress(values, desc="Looking for text", delay=5):
        for view in _views(frame):
            seen = finder(view)
            boxes, texts = ((), ()) if seen.boxes is None else (seen.boxes, seen.txts)
            for box, words in zip(boxes, texts, strict=True):
                if re.search(r"[^\W\d_].*[^\W\d_]|([^\W_].*){3}", words):
                    (left, top), (right, bottom) = box.min(0).astype(int), box.max(0).astype(int)
                    drawn[max(top - 1, 0) : bottom + 3, max(left - 1, 0) : right + 3] = True
    return find_objects(label(drawn)[0])


@cache
def _finder() -> Any:
    from rapidocr import RapidOCR

    return RapidOCR(params={"Global.log_level": "critical"})


def _views(frame: np.ndarray) -> Iterator[np.ndarray]:
    """(H, W, 3) uint8 pictures of one frame, none where all is alike."""
    frame = np.nan_to_num(frame)
    levels, place, count = np.unique(frame, return_inverse=True, return_counts=True)
    curves = [count.cumsum() - count[0]]
    curves += [levels.clip(*np.percentile(frame, ends)) for ends in ((0, 100), (1, 99))]
    for curve in curves:
        low, high = float(curve[0]), float(curve[-1])
        if high > low:
            grey = (255 * (curve - low) / (high - low)).astype(np.uint8)
            picture = grey[place].reshape(*frame.shape[:2], -1)
            yield np.ascontiguousarray(np.broadcast_to(picture, (*frame.shape[:2], 3)))
