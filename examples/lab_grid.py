"""A grid over kernel sizes, {3, 5} x {3, 5}: four runs, with the sizes as hyper-parameters.

python examples/lab_grid.py --dataset digits --epochs 1
discern runs list --project lab_grid
"""

import argparse
from itertools import product

import torch.nn.functional as F
from torch import nn, optim

from discern.lab import experiment
from discern.lab.pytorch import DeviceConfigs, MNISTConfigs, SeedConfigs, TrainValidConfigs


class Net(nn.Module):
    def __init__(self, first: int, second: int):
        super().__init__()
        size = (28 - first - 2 * second + 3) // 4  # after two convolutions and poolings
        self.conv1 = nn.Conv2d(1, 20, first)
        self.conv2 = nn.Conv2d(20, 50, second)
        self.fc1 = nn.Linear(size * size * 50, 500)
        self.fc2 = nn.Linear(500, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class Configs(MNISTConfigs, DeviceConfigs, SeedConfigs, TrainValidConfigs):
    conv1_kernel: int
    conv2_kernel: int
    model: nn.Module


@Configs.calc(Configs.model)
def model(c: Configs):
    return Net(c.conv1_kernel, c.conv2_kernel).to(c.device)


@Configs.calc(Configs.optimizer)
def sgd_optimizer(c: Configs):
    return optim.SGD(c.model.parameters(), lr=0.01, momentum=0.5)


def main(dataset: str, epochs: int):
    for first, second in product((3, 5), repeat=2):
        conf = Configs(dataset_name=dataset, epochs=epochs)
        experiment.create()
        sizes = {"conv1_kernel": first, "conv2_kernel": second}
        experiment.calculate_configs(conf, sizes, ["set_seed", "run"])
        experiment.add_pytorch_models(model=conf.model)
        with experiment.start():
            conf.run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--dataset", default="MNIST")
    parser.add_argument("--epochs", type=int, default=10)
    main(**vars(parser.parse_args()))
