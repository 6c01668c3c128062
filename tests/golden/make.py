"""Makes the golden files of this folder with PyTorch.

    python3 -m venv venv
    venv/bin/pip install torch numpy
    venv/bin/python tests/golden/make.py

Writes `ops.safetensors` (single operators and optimizer steps) and `resnet20_losses.json` (ten training steps of
whole networks) beside itself. Needs a CPU only, and takes about two minutes. README.md says what the files hold and
which versions made the committed ones.

Nothing here is random: every number comes from `uniform(tag, count)`, which the Rust tests repeat, so that neither
weights nor images of the whole networks have to be stored.

Dimension letters: N C H W in, filters K C R S, out N K P Q.
"""

import json
import math
import pathlib
import struct

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

FOLDER = pathlib.Path(__file__).resolve().parent
# The cap keeps the file readable in review and the repository small.
OPS_BYTES_MAX = 260_000

STEPS = 10
SETTINGS = {"momentum": 0.9, "weight_decay": 1e-4, "eps": 0.3}


# Numbers by formula


def uniform(tag, count):
    """`count` values in [0, 1) with 24 bits: SplitMix64 of (FNV-1a 64 of `tag`) + i, as `split_mix` in src/rng.rs."""
    key = 0xCBF29CE484222325
    for byte in tag.encode():
        key = (key ^ byte) * 0x100000001B3 % 2**64
    z = np.uint64(key) + np.arange(count, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float64) / 2**24


def signed(tag, shape, scale=1.0):
    """float32 of `shape`: (2u - 1) * scale. 2u - 1 is exact, `scale` is rounded to float32, then one rounded product."""
    s = (2 * uniform(tag, math.prod(shape)) - 1).astype(np.float32)
    return torch.from_numpy((s * np.float32(scale)).reshape(shape))


def between(tag, shape, low, high):
    """float32 of `shape` in [low, high)."""
    return torch.from_numpy((low + (high - low) * uniform(tag, math.prod(shape))).astype(np.float32).reshape(shape))


def labels_of(tag, count, classes):
    """`count` class indices: floor(u * classes)."""
    return torch.from_numpy(np.floor(uniform(tag, count) * classes).astype(np.int64))


# Operators


class Goldens:
    """Collects tensors named CASE/NAME and one JSON configuration per case, and writes them as safetensors."""

    def __init__(self):
        self.tensors = {}
        self.cases = {}

    def put(self, case, config, **tensors):
        assert case not in self.cases, case
        self.cases[case] = json.dumps(config, sort_keys=True)
        for name, tensor in tensors.items():
            if tensor is not None:
                value = np.asarray(tensor.detach().numpy(), dtype="<f4")
                assert np.isfinite(value).all(), f"{case}/{name}"
                self.tensors[f"{case}/{name}"] = value

    def write(self, path):
        # Written by hand because the order of metadata in the safetensors package is not fixed, and these bytes are.
        header, offset = {"__metadata__": dict(sorted(self.cases.items()))}, 0
        for name, value in sorted(self.tensors.items()):
            header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [offset, offset + value.nbytes]}
            offset += value.nbytes
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        data = b"".join(value.tobytes() for _, value in sorted(self.tensors.items()))
        content = struct.pack("<Q", len(text)) + text + data
        assert len(content) <= OPS_BYTES_MAX, f"{path.name} has {len(content)} bytes, over {OPS_BYTES_MAX}"
        path.write_bytes(content)
        return len(content)


def forward_backward(case, function, **inputs):
    """y of `function` of the inputs, dy by formula, and the gradient d + name of every input.

    Inputs are float32, the arithmetic is float64 and the results are rounded to float32 when stored, so that the
    goldens carry no rounding of their own.
    """
    leaves = {name: t.double().requires_grad_() for name, t in inputs.items() if t is not None}
    y = function(*(leaves.get(name) for name in inputs))
    dy = signed(f"{case}/dy", tuple(y.shape))
    gradients = torch.autograd.grad(y, list(leaves.values()), dy.double())
    return {**inputs, "dy": dy, "y": y, **{f"d{name}": g for name, g in zip(leaves, gradients)}}


def conv2d(goldens):
    def case(name, n, c, h, w, k, kernel=(3, 3), stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1, bias=False):
        case = f"conv2d/{name}"
        config = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        tensors = forward_backward(
            case,
            lambda x, weight, bias: F.conv2d(x, weight, bias, **config),
            x=signed(f"{case}/x", (n, c, h, w)),
            weight=signed(f"{case}/weight", (k, c // groups, *kernel), 0.5),
            bias=signed(f"{case}/bias", (k,)) if bias else None,
        )
        goldens.put(case, {"op": "conv2d", **config}, **tensors)

    case("ordinary", 2, 3, 7, 6, 5)
    case("stride2", 2, 3, 7, 6, 5, stride=(2, 2))
    case("stride2_1", 2, 2, 7, 6, 3, stride=(2, 1))
    case("1x1", 2, 5, 4, 5, 6, kernel=(1, 1), padding=(0, 0), bias=True)
    case("1x1_stride2", 2, 4, 7, 6, 5, kernel=(1, 1), padding=(0, 0), stride=(2, 2))
    case("5x5", 2, 2, 6, 7, 3, kernel=(5, 5), padding=(2, 2), bias=True)
    case("3x1", 2, 3, 6, 5, 4, kernel=(3, 1), padding=(1, 0))
    case("no_padding", 2, 3, 6, 5, 4, padding=(0, 0))
    case("dilation2", 2, 2, 8, 7, 3, padding=(2, 2), dilation=(2, 2))
    case("groups2", 2, 4, 5, 6, 6, groups=2, bias=True)
    case("depthwise", 2, 5, 6, 5, 5, groups=5)
    case("depthwise_stride2", 2, 3, 7, 6, 3, stride=(2, 2), groups=3)
    case("depthwise_multiplier2", 2, 3, 5, 6, 6, groups=3)
    case("n1", 1, 3, 5, 6, 4, bias=True)
    case("c1", 2, 1, 6, 5, 4)
    case("n1_c1_k1", 1, 1, 5, 4, 1, bias=True)
    # No axis is a multiple of a tile: 17 channels, 20 filters, 153 taps, 2 * 5 * 9 places.
    case("larger", 2, 17, 5, 9, 20)


def linear(goldens):
    for name, n, c, k in [("ordinary", 4, 7, 5), ("n1", 1, 6, 4), ("c1", 3, 1, 4), ("larger", 5, 65, 10)]:
        case = f"linear/{name}"
        tensors = forward_backward(
            case,
            F.linear,
            x=signed(f"{case}/x", (n, c)),
            weight=signed(f"{case}/weight", (k, c), 0.5),
            bias=signed(f"{case}/bias", (k,)),
        )
        goldens.put(case, {"op": "linear"}, **tensors)


def batch_norm(goldens):
    config = {"eps": 1e-5, "momentum": 0.1}
    shapes = {
        "ordinary": (4, 3, 5, 5),
        "n1": (1, 3, 4, 5),
        # 315 numbers to a channel, more than a workgroup of 256 has invocations.
        "c1": (5, 1, 9, 7),
        "1x1": (8, 3, 1, 1),
        "larger": (3, 17, 3, 5),
    }
    for name, shape in shapes.items():
        case, c = f"batch_norm/{name}", shape[1]
        # A mean that differs by channel and is not small: a variance as E[x^2] - E[x]^2 would lose digits here.
        x = signed(f"{case}/x", shape, 2.0) + signed(f"{case}/offset", (1, c, 1, 1), 3.0)
        mean = signed(f"{case}/running_mean", (c,))
        variance = between(f"{case}/running_var", (c,), 0.5, 1.5)
        mean_after, variance_after = mean.double(), variance.double()
        weight = between(f"{case}/weight", (c,), 0.5, 1.5)
        bias = signed(f"{case}/bias", (c,))
        tensors = forward_backward(
            case,
            lambda x, weight, bias: F.batch_norm(x, mean_after, variance_after, weight, bias, training=True, **config),
            x=x,
            weight=weight,
            bias=bias,
        )
        before = (mean.double(), variance.double(), weight.double(), bias.double())
        y_eval = F.batch_norm(x.double(), *before, training=False, **config)
        goldens.put(
            case,
            {"op": "batch_norm", **config},
            **tensors,
            running_mean=mean,
            running_var=variance,
            running_mean_after=mean_after,
            running_var_after=variance_after,
            y_eval=y_eval,
        )


def activations(goldens):
    def case(case, function, scale, edges, **config):
        x = signed(f"{case}/x", (2, 3, 4, 5), scale)
        # The edges, where the gradient is a convention: PyTorch takes the side below 0, and 0 at exactly 6.
        x.view(-1)[: len(edges)] = torch.tensor(edges)
        goldens.put(case, {"op": case.split("/")[0], **config}, **forward_backward(case, function, x=x))

    case("relu", F.relu, 2.0, [0.0])
    case("relu6", F.relu6, 9.0, [0.0, 6.0])
    for slope in (0.01, 0.2):
        case(f"leaky_relu/{slope}", lambda x: F.leaky_relu(x, slope), 2.0, [0.0], negative_slope=slope)


def gates(goldens):
    def case(case, function, edges, **config):
        x = signed(f"{case}/x", (1, 2, 4, 5), 5.0)
        x.view(-1)[: len(edges)] = torch.tensor(edges)
        goldens.put(case, {"op": case.split("/")[0], **config}, **forward_backward(case, function, x=x))

    case("sigmoid", torch.sigmoid, [0.0])
    case("silu", F.silu, [0.0])
    case("hard_sigmoid", F.hardsigmoid, [-3.0, 3.0])
    case("hard_swish", F.hardswish, [-3.0, 3.0, 0.0])
    case("clamp", lambda x: F.hardtanh(x, -1.0, 2.0), [-1.0, 2.0], low=-1.0, high=2.0)
    for name, shape in [("gate", (2, 3, 1, 1)), ("same", (2, 3, 2, 3))]:
        case = f"mul/{name}"
        a, gate = signed(f"{case}/a", (2, 3, 2, 3)), signed(f"{case}/gate", shape)
        goldens.put(case, {"op": "mul"}, **forward_backward(case, torch.mul, a=a, gate=gate))
    case, x = "pad2d", signed("pad2d/x", (2, 2, 3, 2))
    tensors = forward_backward(case, lambda x: F.pad(x, (2, 0, 1, 3)), x=x)
    goldens.put(case, {"op": "pad2d", "top": 1, "left": 2, "bottom": 3, "right": 0}, **tensors)


def pools(goldens):
    def case(case, function, shape, **config):
        x = signed(f"{case}/x", shape)
        assert x.unique().numel() == x.numel(), f"{case}: a tie would make the gradient of max a convention"
        tensors = forward_backward(case, lambda x: function(x, **config), x=x)
        goldens.put(case, {"op": case.split("/")[0], **config}, **tensors)

    even, odd = (2, 3, 6, 4), (2, 3, 7, 5)
    case("max_pool2d/k2s2", F.max_pool2d, even, kernel_size=2, stride=2, padding=0)
    case("max_pool2d/k3s2p1", F.max_pool2d, odd, kernel_size=3, stride=2, padding=1)
    case("max_pool2d/k3s1p1", F.max_pool2d, odd, kernel_size=3, stride=1, padding=1)
    case("max_pool2d/odd", F.max_pool2d, odd, kernel_size=2, stride=2, padding=0)
    case("max_pool2d/k3s2_ceil", F.max_pool2d, (1, 2, 6, 8), kernel_size=3, stride=2, padding=0, ceil_mode=True)
    case("max_pool2d/n1_c1", F.max_pool2d, (1, 1, 4, 5), kernel_size=2, stride=2, padding=0)
    average = F.avg_pool2d
    case("avg_pool2d/k2s2", average, even, kernel_size=2, stride=2, padding=0, count_include_pad=True)
    case("avg_pool2d/odd", average, odd, kernel_size=2, stride=2, padding=0, count_include_pad=True)
    case("avg_pool2d/k3s2p1_with_pad", average, odd, kernel_size=3, stride=2, padding=1, count_include_pad=True)
    case("avg_pool2d/k3s2p1_without_pad", average, odd, kernel_size=3, stride=2, padding=1, count_include_pad=False)
    case("global_avg_pool", lambda x: F.adaptive_avg_pool2d(x, 1), odd)


def joins(goldens):
    def two(case, function, a, b):
        a, b = signed(f"{case}/a", a), signed(f"{case}/b", b)
        goldens.put(case, {"op": case}, **forward_backward(case, function, a=a, b=b))

    two("add", torch.add, (2, 3, 4, 5), (2, 3, 4, 5))
    two("concat", lambda a, b: torch.cat([a, b], 1), (2, 3, 4, 3), (2, 5, 4, 3))
    for name, stride, h, w in [("stride1", 1, 3, 4), ("stride2", 2, 6, 4), ("stride2_odd", 2, 3, 5)]:
        case = f"channel_pad/{name}"
        tensors = forward_backward(
            case,
            lambda x: F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, 4, 4)),
            x=signed(f"{case}/x", (2, 3, h, w)),
        )
        goldens.put(case, {"op": "channel_pad", "stride": stride, "before": 4, "after": 4}, **tensors)


def softmax_cross_entropy(goldens):
    for name, n, k, scale in [("ordinary", 8, 10, 3.0), ("n1", 1, 10, 3.0), ("k100", 3, 100, 3.0), ("huge", 8, 10, 300.0)]:
        case = f"softmax_cross_entropy/{name}"
        x = signed(f"{case}/x", (n, k), scale)
        labels = labels_of(f"{case}/labels", n, k)
        # By chance one in k would be right; every other sample is made so, that the count can be wrong.
        labels[::2] = x[::2].argmax(1)
        leaf = x.double().requires_grad_()
        loss = F.cross_entropy(leaf, labels)
        (dx,) = torch.autograd.grad(loss, leaf)
        goldens.put(
            case,
            {"op": "softmax_cross_entropy"},
            x=x,
            labels=labels,
            loss=loss,
            loss_sum=F.cross_entropy(leaf, labels, reduction="sum"),
            dx=dx,
            correct=(x.argmax(1) == labels).sum(),
        )


# Optimizers


def csgd_matrices(clusters, eps, weight_decay, dtype):
    """Gamma and Lambda of the official code, [K, K], for the cluster index of each of K filters."""
    same = (clusters[:, None] == clusters[None, :]).to(dtype)
    mean = same / same.sum(1, keepdim=True)
    return mean, torch.eye(len(clusters), dtype=dtype) * (weight_decay + eps) - eps * mean


def rewrite_gradient(parameter, gamma, lambda_):
    """grad := Gamma @ G + Lambda @ W, with G and W as [K, -1]; before momentum, as the official code."""
    k = parameter.shape[0]
    gradient = gamma @ parameter.grad.reshape(k, -1) + lambda_ @ parameter.detach().reshape(k, -1)
    parameter.grad = gradient.reshape(parameter.shape)


def optimizers(goldens):
    def case(case, shape, config, matrices=None, recorded=None, **extra):
        start = signed(f"{case}/w", shape)
        gradients = [signed(f"{case}/g{t}", shape) for t in range(4)]
        w = start.double().requires_grad_()
        optimizer = torch.optim.SGD([w], **config)
        after = []
        for gradient in gradients:
            w.grad = gradient.double()
            if matrices:
                rewrite_gradient(w, *matrices)
            optimizer.step()
            after.append(w.detach().clone())
        goldens.put(
            case,
            {"op": case.split("/")[0], **config, **(recorded or {})},
            w=start,
            **{f"g{t}": g for t, g in enumerate(gradients)},
            **{f"w{t + 1}": a for t, a in enumerate(after)},
            **extra,
        )

    def sgd(momentum, weight_decay, nesterov):
        return {"lr": 0.1, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov}

    case("sgd/plain", (4, 5), sgd(0.0, 0.0, False))
    case("sgd/momentum", (4, 5), sgd(0.9, 0.0, False))
    case("sgd/momentum_decay", (4, 5), sgd(0.9, 1e-2, False))
    case("sgd/nesterov_decay", (4, 5), sgd(0.9, 1e-2, True))

    eps, weight_decay = 0.3, 1e-2
    clusters = {
        "interleaved": [0, 1, 0, 2, 1, 0, 3],
        "runs": [0, 0, 0, 1, 1, 2, 3],
        "one_cluster": [0, 0, 0, 0],
        "singles": [0, 1, 2, 3],
    }
    optimizer = {"plain": sgd(0.0, 0.0, False), "momentum": sgd(0.9, 0.0, False), "nesterov": sgd(0.9, 0.0, True)}
    for name, kind in [
        ("interleaved", "plain"),
        ("interleaved", "momentum"),
        ("interleaved", "nesterov"),
        ("runs", "momentum"),
        ("one_cluster", "nesterov"),
        ("singles", "nesterov"),
    ]:
        index = torch.tensor(clusters[name])
        case(
            f"csgd/{name}_{kind}",
            (len(index), 6),
            optimizer[kind],
            csgd_matrices(index, eps, weight_decay, torch.float64),
            clusters=index,
            # The decay that Lambda holds, over the optimizer's own, which is 0.
            recorded={"eps": eps, "weight_decay": weight_decay},
        )


# Whole networks


class OptionA(nn.Module):
    """The shortcut without parameters: every other row and column, planes // 4 zero channels on both sides."""

    def __init__(self, planes):
        super().__init__()
        self.pad = planes // 4

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))


class Block(nn.Module):
    def __init__(self, inputs, planes, stride, shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        if stride != 1:
            projection = nn.Sequential(nn.Conv2d(inputs, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))
            self.shortcut = {"projection": projection, "a": OptionA(planes)}[shortcut]

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """The CIFAR ResNet of He et al. with 6 * blocks + 2 layers, names as akamaster/pytorch_resnet_cifar10."""

    INPUT = (4, 3, 32, 32)

    def __init__(self, shortcut, blocks=3):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)

        def stage(inputs, planes, stride):
            first = Block(inputs, planes, stride, shortcut)
            return nn.Sequential(first, *(Block(planes, planes, 1, shortcut) for _ in range(blocks - 1)))

        self.layer1, self.layer2, self.layer3 = stage(16, 16, 1), stage(16, 32, 2), stage(32, 64, 2)
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


class LeNet(nn.Module):
    """Two convolutions and a classifier on a flattened map, the smallest network with every kind of consumer."""

    INPUT = (8, 1, 28, 28)

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 16, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.fc = nn.Linear(784, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        return self.fc(x.flatten(1))


def fill(model):
    """Weights by formula, tagged with the parameter's full name. Batch norm keeps weight 1, bias 0, mean 0, variance 1."""
    with torch.no_grad():
        for path, module in model.named_modules():
            if isinstance(module, nn.Conv2d):
                scale = math.sqrt(6 / module.weight[0].numel())
                module.weight.copy_(signed(f"{path}.weight", tuple(module.weight.shape), scale))
            elif isinstance(module, nn.Linear):
                scale = 1 / math.sqrt(module.in_features)
                module.weight.copy_(signed(f"{path}.weight", tuple(module.weight.shape), scale))
                module.bias.copy_(signed(f"{path}.bias", tuple(module.bias.shape), scale))


def even(count, clusters):
    """Cluster index of each of `count` filters: runs of consecutive indices, the first count mod clusters one longer."""
    sizes = [count // clusters + (j < count % clusters) for j in range(clusters)]
    return [j for j, size in enumerate(sizes) for _ in range(size)]


def trunk_option_a():
    """Clusters of the three stages when channel i of a stage is channel i + planes // 4 of the next."""

    def widen(old, planes, new_clusters):
        pad = planes // 4
        kept = [new_clusters + j for j in old]
        fresh = even(2 * pad, new_clusters)
        return fresh[:pad] + kept + fresh[pad:]

    first = even(16, 10)
    second = widen(first, 32, 10)
    return [first, second, widen(second, 64, 20)]


def resnet_clusters(shortcut):
    """Clusters by name of convolution, 5/8 of the filters kept: those added in a stage share one partition."""
    widths = [16, 32, 64]
    inner = [even(w, w * 5 // 8) for w in widths]
    trunk = {"projection": inner, "a": trunk_option_a()}[shortcut]
    clusters = {"conv1": trunk[0]}
    for stage in range(3):
        for block in range(3):
            clusters[f"layer{stage + 1}.{block}.conv1"] = inner[stage]
            clusters[f"layer{stage + 1}.{block}.conv2"] = trunk[stage]
        if stage > 0 and shortcut == "projection":
            clusters[f"layer{stage + 1}.0.shortcut.0"] = trunk[stage]
    return clusters


def batch_norm_after(convolution):
    """Name of the batch norm that follows: conv1 -> bn1, shortcut.0 -> shortcut.1."""
    if convolution.endswith("shortcut.0"):
        return convolution[:-1] + "1"
    return convolution.replace("conv", "bn")


def deviation(model, clusters):
    """Sum over clustered kernels of ||F_j - mean of its cluster||^2."""
    total = 0.0
    for name, index in clusters.items():
        rows = model.get_submodule(name).weight.detach().double().flatten(1)
        gamma, _ = csgd_matrices(torch.tensor(index), 0.0, 0.0, torch.float64)
        total += (rows - gamma @ rows).square().sum().item()
    return total


def train(model, optimizer_name, lr, clusters, dtype):
    """Loss of each step before its update, and the deviation before and after."""
    model = model.to(dtype)
    matrices = {}
    if optimizer_name == "csgd":
        for name, index in clusters.items():
            index, after = torch.tensor(index), batch_norm_after(name)
            decay = SETTINGS["weight_decay"]
            matrices[f"{name}.weight"] = csgd_matrices(index, SETTINGS["eps"], decay, dtype)
            for part in ("weight", "bias"):
                matrices[f"{after}.{part}"] = csgd_matrices(index, SETTINGS["eps"], 0.0, dtype)
    parameters = dict(model.named_parameters())
    assert matrices.keys() <= parameters.keys()
    # Filters and classifier weights have more than one axis; biases and batch norms one. Lambda holds the decay of
    # clustered filters.
    decayed = [p for name, p in parameters.items() if p.dim() > 1 and name not in matrices]
    others = [p for name, p in parameters.items() if p.dim() == 1 or name in matrices]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": SETTINGS["weight_decay"]}, {"params": others, "weight_decay": 0.0}],
        lr=lr,
        momentum=SETTINGS["momentum"],
        nesterov=optimizer_name == "nesterov",
    )
    before = deviation(model, clusters)
    losses = []
    for t in range(STEPS):
        x = signed(f"x{t}", model.INPUT, 1.7).to(dtype)
        loss = F.cross_entropy(model(x), labels_of(f"y{t}", model.INPUT[0], 10))
        optimizer.zero_grad()
        loss.backward()
        for name, pair in matrices.items():
            rewrite_gradient(parameters[name], *pair)
        optimizer.step()
        losses.append(loss.item())
    assert all(map(math.isfinite, losses)), losses
    return losses, before, deviation(model, clusters)


def run(name, build, optimizer_name, lr, clusters):
    """One entry of the losses file: the same ten steps in float32 and in float64."""
    results = {}
    for suffix, dtype in [("", torch.float32), ("_f64", torch.float64)]:
        model = build()
        fill(model)
        losses, before, after = train(model, optimizer_name, lr, clusters, dtype)
        results[f"losses{suffix}"] = losses
        if optimizer_name == "csgd":
            results["deviation_before"] = before
            results[f"deviation{suffix}"] = after
    return {"name": f"{name}/{optimizer_name}", "optimizer": optimizer_name, "lr": lr, **results}


def networks():
    runs = []
    # 0.05 trains as a user would, and turns one flipped ReLU into 1e-2 of loss within ten steps; at 0.001 all ten
    # losses agree between float32 and float64, so that a test can be strict about every one.
    for kind, lr in [("resnet20", 0.05), ("resnet20_gentle", 0.001)]:
        for shortcut in ("projection", "a"):
            clusters = resnet_clusters(shortcut)
            for optimizer_name in ("sgd", "nesterov", "csgd"):
                runs.append(run(f"{kind}/{shortcut}", lambda: ResNet(shortcut), optimizer_name, lr, clusters))
    clusters = {"conv1": even(8, 4), "conv2": even(16, 8)}
    for optimizer_name in ("sgd", "csgd"):
        # At 0.05 all its ReLUs die in six steps.
        runs.append(run("lenet", LeNet, optimizer_name, 0.01, clusters))
    return runs


def main():
    torch.set_num_threads(2)
    goldens = Goldens()
    for operator in (conv2d, linear, batch_norm, activations, gates, pools, joins, softmax_cross_entropy, optimizers):
        operator(goldens)
    size = goldens.write(FOLDER / "ops.safetensors")
    print(f"ops.safetensors: {len(goldens.cases)} cases, {len(goldens.tensors)} tensors, {size} bytes")

    versions = {"torch": torch.__version__, "numpy": np.__version__}
    runs = networks()
    lines = ",\n".join("    " + json.dumps(r) for r in runs)
    head = f'{{\n  "versions": {json.dumps(versions)},\n  "settings": {json.dumps(SETTINGS)},\n  "runs": [\n'
    (FOLDER / "resnet20_losses.json").write_text(f"{head}{lines}\n  ]\n}}\n")
    for r in runs:
        worst = max(abs(a - b) / b for a, b in zip(r["losses"], r["losses_f64"]))
        print(f"{r['name']}: loss {r['losses'][0]:.4f} -> {r['losses'][-1]:.4f}, float32 against float64 within {worst:.1e}")
    print(f"made with {versions}")


if __name__ == "__main__":
    main()
