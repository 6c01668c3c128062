"""The works of `cargo bench --bench step` in PyTorch, on the CPU: time and memory.

usage: pytorch.py WORK [--threads 2] [--batch N] [--seconds 3] [--channels-last] [--compile]

WORK is `lenet`, `resnet20`, `resnet56` (a training step) or `inference` (ResNet-20). The networks are those of
Centripetal's zoo. A step is forward, cross-entropy, backward, SGD with momentum and weight decay, loss read back.
The last line is JSON: `med_ms` is the median time of a step, `growth_mb` by how much the process was larger at its
largest than before the network was made.
"""

import argparse
import json
import resource
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn


def conv_bn(inputs, outputs, size, stride=1):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs)
    )


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = conv_bn(1, 8, 3), conv_bn(8, 16, 3)
        self.fc = nn.Linear(16 * 7 * 7, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.first(x)), 2)
        x = F.max_pool2d(F.relu(self.second(x)), 2)
        return self.fc(x.flatten(1))


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.first, self.second = conv_bn(inputs, outputs, 3, stride), conv_bn(outputs, outputs, 3)
        self.shortcut = nn.Identity() if stride == 1 else conv_bn(inputs, outputs, 1, stride)

    def forward(self, x):
        y = self.second(F.relu(self.first(x)))
        return F.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.first = conv_bn(3, 16, 3)
        layers, inputs = [], 16
        for outputs in (16, 32, 64):
            for block in range(blocks):
                layers.append(Block(inputs, outputs, 2 if block == 0 and outputs > 16 else 1))
                inputs = outputs
        self.blocks, self.linear = nn.Sequential(*layers), nn.Linear(64, 10)

    def forward(self, x):
        return self.linear(self.blocks(F.relu(self.first(x))).mean((2, 3)))


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("work", choices=["lenet", "resnet20", "resnet56", "inference"])
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--batch", type=int)
parser.add_argument("--seconds", type=float, default=3)
parser.add_argument("--channels-last", action="store_true")
parser.add_argument("--compile", action="store_true")
options = parser.parse_args()


def largest_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


torch.set_num_threads(options.threads)
torch.manual_seed(1)
idle = largest_mb()
lenet = options.work == "lenet"
batch = options.batch or (64 if lenet else 32)
model = LeNet() if lenet else ResNet(9 if options.work == "resnet56" else 3)
x = torch.randn(batch, 1, 28, 28) if lenet else torch.randn(batch, 3, 32, 32)
y = torch.arange(batch) % 10
if options.channels_last:
    x, model = x.to(memory_format=torch.channels_last), model.to(memory_format=torch.channels_last)
run = torch.compile(model) if options.compile else model
if options.work == "inference":
    model.eval()

    def step():
        with torch.no_grad():
            return run(x).numpy()

else:
    sgd = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)

    def step():
        sgd.zero_grad(set_to_none=True)
        loss = F.cross_entropy(run(x), y)
        loss.backward()
        sgd.step()
        return loss.item()


for _ in range(8):
    step()
times, begin = [], time.perf_counter()
while len(times) < 7 or time.perf_counter() - begin < options.seconds:
    start = time.perf_counter()
    step()
    times.append((time.perf_counter() - start) * 1e3)
print(
    json.dumps(
        {
            "work": options.work,
            "torch": torch.__version__,
            "med_ms": round(statistics.median(times), 3),
            "min_ms": round(min(times), 3),
            "steps": len(times),
            "growth_mb": round(largest_mb() - idle, 1),
        }
    )
)
