"""Networks whose weights are standardised by nodes of the file: how long `centripetal import` takes, and whether what it
computed beforehand is what onnxruntime computes.

    python3 -m venv venv
    venv/bin/pip install onnx onnxruntime numpy pillow
    cargo build --release
    venv/bin/python tests/onnx/standardised.py [COMMAND]

One weight of 1024x512x3x3, and a network of ResNetV2-50's widths with all 53 of its weights, each standardised in three ways:
by mean, deviation and gain with squares by Mul and by Pow, and by a batch norm over the reshaped weight, as PyTorch exports
timm's.
The loss of both programs over the same pictures must be equal to 1e-4.
"""

import json
import pathlib
import resource
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

RELEASE = pathlib.Path(__file__).resolve().parents[2] / "target/release/centripetal"
COMMAND = pathlib.Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else RELEASE
CLASSES, IMAGES = "abc", 2
rng = np.random.default_rng(0)


class Network:
    def __init__(self, way):
        self.way, self.nodes, self.constants, self.count = way, [], [], 0
        if way != "batch norm":
            self.constant("epsilon", np.float32(1e-6))
        if way == "pow":
            self.constant("two", np.float32(2))

    def constant(self, name, value):
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, op, inputs, outputs=1, **attributes):
        self.count += 1
        names = [f"v{self.count}_{at}" for at in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        return names[0]

    def standardised(self, weight, shape):
        gain = np.float32(np.prod(shape[1:]) ** -0.5)
        if self.way == "batch norm":
            filters = shape[0]
            parameters = [
                self.constant(f"{weight}.{name}", np.full(filters, value, np.float32))
                for name, value in (("gamma", gain), ("beta", 0), ("mean", 0), ("var", 1))
            ]
            flat = self.constant(f"{weight}.flat", np.array([1, filters, -1]))
            whole = self.constant(f"{weight}.whole", np.array(shape))
            rows = self.add("Reshape", [weight, flat])
            rows = self.add("BatchNormalization", [rows, *parameters], 3, training_mode=1, epsilon=1e-6)
            return self.add("Reshape", [rows, whole])
        centred = self.add("Sub", [weight, self.add("ReduceMean", [weight], axes=[1, 2, 3])])
        square = ("Mul", [centred, centred]) if self.way == "mul" else ("Pow", [centred, "two"])
        variance = self.add("ReduceMean", [self.add(*square)], axes=[1, 2, 3])
        ratio = self.add("Div", [centred, self.add("Sqrt", [self.add("Add", [variance, "epsilon"])])])
        return self.add("Mul", [ratio, self.constant(f"{weight}.gain", gain)])

    def conv(self, x, inputs, outputs, side, stride=1):
        shape = [outputs, inputs, side, side]
        weight = rng.normal(size=shape).astype(np.float32)
        weight = self.constant(f"w{self.count}", weight)
        pads = [side // 2] * 4
        return self.add("Conv", [x, self.standardised(weight, shape)], strides=[stride] * 2, pads=pads)

    def norm(self, x, channels):
        values = (("gamma", 1), ("beta", 0), ("mean", 0), ("var", 1))
        parameters = [self.constant(f"{x}.{name}", np.full(channels, value, np.float32)) for name, value in values]
        return self.add("Relu", [self.add("BatchNormalization", [x, *parameters])])

    def finish(self, x, channels, side, path):
        x = self.add("Flatten", [self.add("GlobalAveragePool", [x])])
        head = rng.normal(size=[len(CLASSES), channels]).astype(np.float32)
        self.nodes.append(helper.make_node("Gemm", [x, self.constant("head", head)], ["y"], transB=1))
        images = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3, side, side])
        logits = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, len(CLASSES)])
        graph = helper.make_graph(self.nodes, "standardised", [images], [logits], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
        onnx.save(model, path)


def one_weight(way, path):
    network = Network(way)
    x = network.conv("x", 3, 512, 1)
    network.finish(network.conv(x, 512, 1024, 3), 1024, 8, path)
    return 8


def resnet(way, path):
    network = Network(way)
    x, channels = network.conv("x", 3, 64, 7, 2), 64
    for stage, (width, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)]):
        for block in range(blocks):
            stride = 2 if block == 0 and stage > 0 else 1
            y = network.norm(x, channels)
            if block == 0:
                x = network.conv(y, channels, 4 * width, 1, stride)
            y = network.norm(network.conv(y, channels, width, 1), width)
            y = network.norm(network.conv(y, width, width, 3, stride), width)
            x, channels = network.add("Add", [x, network.conv(y, width, 4 * width, 1)]), 4 * width
    network.finish(network.norm(x, channels), channels, 64, path)
    return 64


def run(*words):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ran = subprocess.run([COMMAND, *map(str, words)], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if ran.returncode:
        sys.exit(ran.stderr)
    return ran.stdout, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def check(make, way, folder):
    path = folder / "network.onnx"
    side = make(way, path)
    session = onnxruntime.InferenceSession(path)
    losses = []
    for label, name in enumerate(CLASSES):
        for image in range(IMAGES):
            pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
            for part in "train", "val":
                place = folder / "data" / part / name
                place.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(place / f"{image}.png")
            x = pixels.transpose(2, 0, 1)[None].astype(np.float32) / 255
            z = session.run(None, {"x": x})[0][0].astype(np.float64)
            losses.append(np.log(np.exp(z - z.max()).sum()) + z.max() - z[label])
    out, statistics = folder / "run", ["--mean", "0,0,0", "--std", "1,1,1"]
    times = [run("import", path, "--out", out, "--force", *statistics)[1] for _ in range(3)]
    checkpoint = out / "base.safetensors"
    found, _ = run("eval", checkpoint, "--data", f"folder@{side}:{folder / 'data'}", "--device", "cpu", "--json")
    found, expected = json.loads(found)["loss"], float(np.mean(losses))
    fits = abs(found - expected) <= 1e-4 * max(1, abs(expected))
    size = path.stat().st_size / 1e6
    print(
        f"{make.__name__:10} {way:10} {size:6.1f} MB  import {min(times):.2f} s of CPU  "
        f"loss {found:.6f}, onnxruntime {expected:.6f}{'' if fits else '  WRONG'}"
    )
    return fits


def main():
    fits = []
    for make in one_weight, resnet:
        for way in "mul", "pow", "batch norm":
            with tempfile.TemporaryDirectory() as folder:
                fits.append(check(make, way, pathlib.Path(folder)))
    sys.exit(0 if all(fits) else 1)


if __name__ == "__main__":
    main()
