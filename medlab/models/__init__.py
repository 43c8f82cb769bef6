"""Networks of the course, each short enough to be read in one sitting."""

from medlab.models.inspect import feature_maps, summary
from medlab.models.small_cnn import SmallCNN
from medlab.models.standardise import Standardise

__all__ = ["SmallCNN", "Standardise", "feature_maps", "summary"]
