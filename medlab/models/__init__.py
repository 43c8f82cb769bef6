"""Networks of the course, each short enough to be read in one sitting."""

from medlab.models.inspect import feature_maps, summary, undisturbed
from medlab.models.resnet import ResNet
from medlab.models.small_cnn import SmallCNN
from medlab.models.standardise import Standardise
from medlab.models.unet import UNet

__all__ = ["ResNet", "SmallCNN", "Standardise", "UNet", "feature_maps", "summary", "undisturbed"]
