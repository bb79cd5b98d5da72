"""A training of your own on MNIST, with lazy configs, tracked figures and a run folder.

python examples/lab_mnist.py --epochs 1
python examples/lab_mnist.py --dataset digits --epochs 3    # needs no files
"""

import argparse

import torch.nn.functional as F
from torch import nn, optim

from discern.lab import experiment
from discern.lab.pytorch import DeviceConfigs, MNISTConfigs, SeedConfigs, TrainValidConfigs


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.fc1 = nn.Linear(4 * 4 * 50, 500)
        self.fc2 = nn.Linear(500, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class Configs(MNISTConfigs, DeviceConfigs, SeedConfigs, TrainValidConfigs):
    is_save_models = True
    model: nn.Module
    learning_rate: float = 0.01
    momentum: float = 0.5


@Configs.calc(Configs.model)
def model(c: Configs):
    return Net().to(c.device)


@Configs.calc(Configs.optimizer)
def sgd_optimizer(c: Configs):
    return optim.SGD(c.model.parameters(), lr=c.learning_rate, momentum=c.momentum)


@Configs.calc(Configs.optimizer)
def adam_optimizer(c: Configs):
    return optim.Adam(c.model.parameters(), lr=c.learning_rate)


def main(dataset: str, epochs: int):
    conf = Configs(dataset_name=dataset, epochs=epochs)
    experiment.create()
    experiment.calculate_configs(conf, {}, ["set_seed", "run"])
    experiment.add_pytorch_models(model=conf.model)
    with experiment.start():
        conf.run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--dataset", default="MNIST")
    parser.add_argument("--epochs", type=int, default=10)
    main(**vars(parser.parse_args()))
