"""Networks of torchvision and others through ONNX: in, cut, and out again.

    python3 -m venv venv
    venv/bin/pip install torch torchvision onnx onnxscript onnxruntime numpy
    cargo build --release --example onnx_check
    venv/bin/python tests/onnx/check.py [NAME ...]

For each network, with random weights and running statistics that are not those of a fresh one, it

1. exports it from PyTorch as ONNX,
2. imports it and compares its logits with PyTorch's (within 1e-3 of the largest),
3. makes the filters of clusters identical, cuts, and compares the slim network's logits with the wide one's,
4. exports the wide and the slim network, with and without batch norms folded, checks the files with onnx's checker, runs
   them in onnxruntime and compares (within 1e-4 of the largest).

`--fixtures` writes the small files beside this script that the ordinary tests read, and what PyTorch answers to them.
"""

import json
import pathlib
import struct
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn as nn
import torch.nn.functional as F
import torchvision

FOLDER = pathlib.Path(__file__).resolve().parent
CHECK = FOLDER.parents[1] / "target/release/examples/onnx_check"
BATCH = 2


# safetensors by hand: one dependency less


def save(path, tensors):
    header, offset = {}, 0
    for name, value in sorted(tensors.items()):
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [offset, offset + value.nbytes]}
        offset += value.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = b"".join(np.ascontiguousarray(value, dtype="<f4").tobytes() for _, value in sorted(tensors.items()))
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def load(path):
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    return {
        name: np.frombuffer(data[slice(*entry["data_offsets"])], "<f4").reshape(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__"
    }


# Networks


class SqueezeExcite(nn.Module):
    """Blocks with gates, a SiLU, a hard swish and a channel shuffle."""

    def __init__(self, width=16):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 2, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.depthwise = nn.Conv2d(width, width, 3, 1, 1, groups=width, bias=False)
        self.fc1 = nn.Conv2d(width, 4, 1)
        self.fc2 = nn.Conv2d(4, width, 1)
        self.lin1 = nn.Linear(width, 4)
        self.lin2 = nn.Linear(4, width)
        self.grouped = nn.Conv2d(width, width, 1, groups=2)
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        x = F.silu(self.bn(self.stem(x)))
        y = F.hardswish(self.depthwise(x))
        y = y * torch.sigmoid(self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(y, 1)))))
        x = x + y
        gate = F.hardsigmoid(self.lin2(F.relu(self.lin1(x.mean((2, 3))))))
        x = x * gate.view(x.shape[0], -1, 1, 1)
        x = F.relu6(self.grouped(x))
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        a, b = x.chunk(2, 1)
        x = torch.cat([b, a], 1)
        return F.softmax(self.head(x.mean((2, 3))), 1)


class OptionA(nn.Module):
    """A residual network whose shortcuts are padded with zeros, and a flattened map before its linear layers."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16)
        self.conv3 = nn.Conv2d(16, 12, (3, 1), padding=(1, 0), dilation=(1, 1))
        self.fc1, self.fc2 = nn.Linear(12 * 16, 20), nn.Linear(20, 10)

    def forward(self, x):
        x = F.leaky_relu(self.bn1(self.conv1(x)), 0.1)
        x = F.relu(self.bn2(self.conv2(x)) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)))
        x = F.max_pool2d(F.pad(F.relu(self.conv3(x)), (0, 1, 0, 1)), 2, 2)
        return self.fc2(F.dropout(F.hardtanh(self.fc1(torch.flatten(x, 1)), -0.5, 2.0), 0.5, self.training))


def vision(name, **options):
    return lambda: getattr(torchvision.models, name)(weights=None, **options)


NETWORKS = {
    "resnet18": (vision("resnet18"), 224),
    "resnet50": (vision("resnet50"), 224),
    "mobilenet_v2": (vision("mobilenet_v2"), 224),
    "densenet121": (vision("densenet121"), 224),
    "googlenet": (vision("googlenet", aux_logits=False, init_weights=False), 224),
    "vgg16_bn": (vision("vgg16_bn"), 224),
    "squeeze_excite": (SqueezeExcite, 16),
    "option_a": (OptionA, 16),
    "resnext50_32x4d": (vision("resnext50_32x4d"), 224),
    "shufflenet_v2_x0_5": (vision("shufflenet_v2_x0_5"), 224),
    "mobilenet_v3_small": (vision("mobilenet_v3_small"), 224),
    "efficientnet_b0": (vision("efficientnet_b0"), 224),
    "squeezenet1_1": (vision("squeezenet1_1"), 224),
    "mnasnet0_5": (vision("mnasnet0_5"), 224),
    "regnet_y_400mf": (vision("regnet_y_400mf"), 224),
    "inception_v3": (vision("inception_v3", aux_logits=False, init_weights=False), 299),
}


def lively(model, images):
    """Batch norms as after training: with statistics of real activations, gammas and betas that are not 1 and 0."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            with torch.no_grad():
                module.weight.copy_(0.5 + torch.rand(module.weight.shape, generator=generator))
                module.bias.copy_(0.2 * torch.randn(module.bias.shape, generator=generator))
            module.momentum = 1.0
    model.train()
    with torch.no_grad():
        model(images)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
            # Of two images of one pixel the variance is next to nothing, which makes answers of rounding.
            module.running_var.clamp_(min=0.05)
    return model.eval()


def logits_of(model, images):
    """PyTorch's answers before a softmax."""
    if isinstance(model, SqueezeExcite):
        original, F.softmax = F.softmax, lambda x, _: x
        try:
            with torch.no_grad():
                return model(images).numpy()
        finally:
            F.softmax = original
    with torch.no_grad():
        return model(images).numpy()


def difference(a, b):
    return float(np.abs(a - b).max() / np.abs(a).max())


def run(path, images):
    onnx.checker.check_model(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]


def build(name):
    torch.manual_seed(0)
    make, side = NETWORKS[name]
    channels = 1 if name == "option_a" else 3
    images = torch.randn(BATCH, channels, side, side)
    return lively(make(), images), images


def export(model, images, path, dynamo=False):
    if dynamo:
        torch.onnx.export(model, (images,), str(path), dynamo=True, verbose=False)
        return
    # Dynamic axes and no folding of batch norms, so that the file has all there is to read.
    torch.onnx.export(
        model,
        (images,),
        str(path),
        dynamo=False,
        opset_version=17,
        do_constant_folding=True,
        training=torch.onnx.TrainingMode.PRESERVE,
        input_names=["images"],
        dynamic_axes={"images": {0: "batch"}},
    )


def check(name, dynamo):
    model, images = build(name)
    expected = logits_of(model, images)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        path = folder / f"{name}.onnx"
        export(model, images, path, dynamo)
        save(folder / "images.safetensors", {"images": images.numpy()})
        done = subprocess.run(
            [CHECK, path, folder / "images.safetensors", folder], capture_output=True, text=True
        )
        if done.returncode != 0:
            print(f"{name}: {done.stderr.strip()}")
            return False
        found = load(folder / "logits.safetensors")
        errors = {
            "import": (difference(expected, found["wide"]), 1e-3),
            "cut": (difference(found["identical"], found["slim"]), 1e-4),
        }
        for network in ("wide", "identical", "slim"):
            for suffix in ("", "-folded"):
                answers = run(folder / f"{network}{suffix}.onnx", images)
                errors[f"{network}{suffix}"] = (difference(found[network], answers), 1e-4)
        good = all(error <= most for error, most in errors.values())
        told = ", ".join(f"{what} {error:.0e}" for what, (error, _) in errors.items())
        print(f"{name}{' (dynamo)' if dynamo else ''}: {'ok' if good else 'WRONG'}; {told}; {done.stdout.strip()!r}", flush=True)
        return good


def fixtures():
    """Small files for the ordinary tests, and PyTorch's answers to images by formula (tests/golden/README.md)."""
    sys.path.insert(0, str(FOLDER.parent / "golden"))
    from make import signed

    answers = {}
    for name in ("squeeze_excite", "option_a"):
        model, images = build(name)
        images = signed("x0", tuple(images.shape), 1.7)
        for suffix, dynamo in (("", False), ("_dynamo", True)):
            path = FOLDER / f"{name}{suffix}.onnx"
            export(model, images, path, dynamo)
            network = onnx.load(str(path))
            # Exporters note the lines of source that a node is from, with the paths of the machine.
            for part in (network, network.graph, *network.graph.node, *network.graph.value_info, *network.graph.input):
                part.ClearField("doc_string")
                part.ClearField("metadata_props")
            for part in (*network.graph.initializer, *network.graph.output):
                part.ClearField("doc_string")
                part.ClearField("metadata_props")
            onnx.save(network, str(path))
            path.with_suffix(".onnx.data").unlink(missing_ok=True)
            assert path.stat().st_size < 100_000, path
        answers[name] = logits_of(model, images)
    save(FOLDER / "answers.safetensors", answers)


def main():
    arguments = sys.argv[1:]
    if arguments == ["--fixtures"]:
        return fixtures()
    dynamo = "--dynamo" in arguments
    names = [name for name in arguments if not name.startswith("--")] or list(NETWORKS)
    results = [check(name, dynamo) for name in names]
    print(f"{sum(results)} of {len(results)} networks")
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
