"""Networks of Keras through tf2onnx and this tool: images of rows, columns and channels, as TensorFlow has them.

    python3 -m venv venv
    venv/bin/pip install tensorflow-cpu tf2onnx onnx onnxruntime numpy
    cargo build --release --example onnx_check
    venv/bin/python tests/onnx/keras_check.py [NAME ...]

As `check.py`: import against Keras (within 1e-3 of the largest probability), the slim network against the wide one of identical
filters, and onnxruntime against this library. `--opset N` writes another version of the operators, `--fixed` a fixed batch,
`--nchw` images with the channels in front, `--raw` leaves out tf2onnx's own optimisation, so that every layer is between two
transpositions.

`--fixtures` writes the small file beside this script that the ordinary tests read, and what Keras answers to it.
"""

import argparse
import json
import logging
import os
import pathlib
import struct
import subprocess
import sys
import tempfile

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx
import tf2onnx.convert
import tf2onnx.optimizer

logging.disable(logging.WARNING)
FOLDER = pathlib.Path(__file__).resolve().parent
CHECK = pathlib.Path(os.environ.get("CHECK", FOLDER.parents[1] / "target/release/examples/onnx_check"))
BATCH = 2


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


def signed(tag, shape, scale):
    """Numbers by formula, as tests/golden/make.py has them."""
    key = 0xCBF29CE484222325
    for byte in tag.encode():
        key = (key ^ byte) * 0x100000001B3 % 2**64
    z = np.uint64(key) + np.arange(np.prod(shape), dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    s = (2 * ((z >> np.uint64(40)).astype(np.float64) / 2**24) - 1).astype(np.float32)
    return (s * np.float32(scale)).reshape(shape)


def small():
    """A bit of everything, over images that are not square: gates, uneven padding, a map that is flattened."""
    layers = tf.keras.layers
    images = tf.keras.Input((11, 14, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(images)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("swish")(x)
    y = layers.DepthwiseConv2D(3, padding="same")(x)
    y = layers.BatchNormalization()(y)
    y = layers.ReLU(6.0)(y)
    gate = layers.GlobalAveragePooling2D()(y)
    gate = layers.Reshape((1, 1, 8))(gate)
    gate = layers.Conv2D(4, 1, activation="relu")(gate)
    gate = layers.Conv2D(8, 1, activation="sigmoid")(gate)
    x = layers.Add()([x, layers.Multiply()([y, gate])])
    x = layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
    x = layers.MaxPooling2D(3, 2)(x)
    x = layers.Concatenate()([x, layers.SeparableConv2D(6, 3, padding="same")(x)])
    x = layers.AveragePooling2D(2, padding="same")(x)
    x = layers.Dropout(0.3)(layers.Flatten()(x))
    x = layers.Dense(9, activation="relu")(x)
    return tf.keras.Model(images, layers.Dense(7, activation="softmax")(x))


def application(name, side, **options):
    make = getattr(tf.keras.applications, name)
    return lambda: make(weights=None, input_shape=(side, side, 3), **options)


NETWORKS = {
    "small": small,
    "mobilenet": application("MobileNet", 96),
    "mobilenet_v2": application("MobileNetV2", 96),
    "mobilenet_v3": application("MobileNetV3Small", 96, include_preprocessing=False),
    "resnet50": application("ResNet50", 96),
    "resnet50_v2": application("ResNet50V2", 96),
    "densenet121": application("DenseNet121", 96),
    "inception_v3": application("InceptionV3", 139),
    "xception": application("Xception", 96),
    "vgg16": application("VGG16", 64),
}


def lively(model):
    """Batch norms that are not the identity, and biases that are not 0."""
    generator = np.random.default_rng(0)

    def drawn(weight):
        if any(part in weight.name for part in ("gamma", "variance")):
            return (0.5 + generator.random(weight.shape)).astype("f4")
        if any(part in weight.name for part in ("beta", "mean", "bias")):
            return (0.2 * generator.standard_normal(weight.shape)).astype("f4")
        return weight.numpy()

    for layer in model.layers:
        layer.set_weights([drawn(weight) for weight in layer.weights])
    return model


def build(name):
    tf.keras.utils.set_random_seed(0)
    return lively(NETWORKS[name]())


def convert(model, arguments):
    batch = BATCH if arguments.fixed else None
    signature = (tf.TensorSpec((batch, *model.input_shape[1:]), tf.float32, name="input"),)
    function = tf.function(lambda images: model(images, training=False), input_signature=signature)
    if arguments.raw:
        tf2onnx.optimizer.optimize_graph = lambda graph, *_, **__: graph
    options = {"inputs_as_nchw": ["input:0"]} if arguments.nchw else {}
    return tf2onnx.convert.from_function(function, input_signature=signature, opset=arguments.opset, **options)[0]


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def difference(a, b):
    return float(np.abs(a - b).max() / np.abs(a).max())


def check(name, arguments):
    model = build(name)
    images = np.random.default_rng(1).standard_normal((BATCH, *model.input_shape[1:])).astype("f4")
    expected = model(images, training=False).numpy()
    turned = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        path = folder / f"{name}.onnx"
        onnx.save(convert(model, arguments), path)
        save(folder / "images.safetensors", {"images": turned})
        done = subprocess.run([CHECK, path, folder / "images.safetensors", folder], capture_output=True, text=True)
        if done.returncode != 0:
            print(f"{name}: {done.stderr.strip()}", flush=True)
            return False
        found = load(folder / "logits.safetensors")
        errors = {
            "import": (difference(expected, softmax(found["wide"])), 1e-3),
            "cut": (difference(found["identical"], found["slim"]), 1e-4),
        }
        for network in ("wide", "slim"):
            for suffix in ("", "-folded"):
                onnx.checker.check_model(str(folder / f"{network}{suffix}.onnx"))
                session = onnxruntime.InferenceSession(str(folder / f"{network}{suffix}.onnx"))
                answers = session.run(None, {"input": turned})[0]
                errors[f"{network}{suffix}"] = (difference(found[network], answers), 1e-4)
        good = all(error <= most for error, most in errors.values())
        told = ", ".join(f"{what} {error:.0e}" for what, (error, _) in errors.items())
        print(f"{name}: {'ok' if good else 'WRONG'}; {told}; {done.stdout.strip()!r}", flush=True)
        return good


def fixtures(arguments):
    model = build("small")
    onnx.save(convert(model, arguments), FOLDER / "keras.onnx")
    _, rows, columns, channels = model.input_shape
    images = signed("x0", (BATCH, channels, rows, columns), 1.7).transpose(0, 2, 3, 1)
    # Centred, a softmax's logits are the logarithms of what it gives.
    logarithms = np.log(model(images, training=False).numpy())
    save(FOLDER / "keras.safetensors", {"centred": logarithms - logarithms.mean(1, keepdims=True)})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--opset", type=int, default=15)
    parser.add_argument("--nchw", action="store_true")
    parser.add_argument("--fixed", action="store_true")
    parser.add_argument("--raw", action="store_true")
    parser.add_argument("--fixtures", action="store_true")
    arguments = parser.parse_args()
    if arguments.fixtures:
        return fixtures(arguments)
    results = [check(name, arguments) for name in arguments.names or NETWORKS]
    print(f"{sum(results)} of {len(results)} networks")
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
