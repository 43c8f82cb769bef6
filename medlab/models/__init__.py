"""Networks of the course, each short enough to be read in one sitting."""

from medlab.models.autoencoder import Autoencoder
from medlab.models.boxes import box_iou, nms
from medlab.models.centre_net import Detector, found_boxes
from medlab.models.cnn_gru import CNNGRU
from medlab.models.inspect import feature_maps, summary, undisturbed
from medlab.models.resnet import ResNet
from medlab.models.small_cnn import SmallCNN
from medlab.models.standardise import Standardise
from medlab.models.unet import Denoiser, UNet

__all__ = [
    "CNNGRU",
    "Autoencoder",
    "Denoiser",
    "Detector",
    "ResNet",
    "SmallCNN",
    "Standardise",
    "UNet",
    "box_iou",
    "feature_maps",
    "found_boxes",
    "nms",
    "summary",
    "undisturbed",
]
