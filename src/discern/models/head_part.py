"""The head of a classifier as a network of its own: features in, logits out.

Knows nothing of where the features come from; `feed.features` keeps them.
Axes: N images, D features.
"""

from __future__ import annotations

from torch import Tensor, nn

from discern.models.classifier import Classifier, Output


class HeadPart(nn.Module):
    """Answers `features` [N, D] as the whole classifier answers the images they are of.

    It shares every parameter with `classifier`, whose network must split (`Classifier.splits`).
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, features: Tensor) -> Output:
        """Logits and the `features` themselves."""
        return self.classifier.classify(features)
