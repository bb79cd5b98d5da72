"""What needs torch for training loops of your own: configs to mix in, devices, ready trainers.

from discern.lab.pytorch import DeviceConfigs, MNISTConfigs, SeedConfigs, TrainValidConfigs
"""

from __future__ import annotations

from discern.lab.devices import DeviceConfigs, SeedConfigs, describe_device, get_device
from discern.lab.image_sets import CIFAR10Configs, MNISTConfigs, Normalize, PixelSet
from discern.lab.model_indicators import (
    add_model_indicators,
    store_model_indicators,
    store_optimizer_indicators,
)
from discern.lab.train_valid import Trainer, TrainValidConfigs
from discern.lab.training_loop import TrainingLoop, TrainingLoopConfigs

__all__ = [
    "CIFAR10Configs",
    "DeviceConfigs",
    "MNISTConfigs",
    "Normalize",
    "PixelSet",
    "SeedConfigs",
    "TrainValidConfigs",
    "Trainer",
    "TrainingLoop",
    "TrainingLoopConfigs",
    "add_model_indicators",
    "describe_device",
    "get_device",
    "store_model_indicators",
    "store_optimizer_indicators",
]
