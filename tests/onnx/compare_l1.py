"""Whether `prune --method l1` keeps what Torch-Pruning's L1 keeps of a ResNet-20.

    venv/bin/pip install torch torch-pruning numpy onnx onnxruntime torchvision
    cargo build --release
    venv/bin/python tests/onnx/compare_l1.py

Torch-Pruning scores a group by its first layer (`group_reduction="first"`), as the pacesetter does here, and deletes 3/8 of
every group. All tensors of the two cut networks must be the same, bit for bit.
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
import torch.nn as nn
import torch_pruning

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/golden"), str(ROOT / "tests/onnx")]
import check
import make


def run(*arguments):
    subprocess.run([ROOT / "target/release/centripetal", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def main():
    torch.manual_seed(0)
    images = torch.randn(64, 3, 32, 32)
    model = check.lively(make.ResNet("projection"), images)
    weights = {name: value.numpy().copy() for name, value in model.state_dict().items() if "num_batches" not in name}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        check.save(folder / "weights.safetensors", weights)
        run("import", folder / "weights.safetensors", "--model", "resnet20", "--out", folder / "base")
        base, out = folder / "base/base.safetensors", folder / "l1"
        # Which images does not matter: L1 looks at weights alone.
        data = ["--data", "synthetic", "--train-limit", 64, "--test-limit", 64, "--device", "cpu", "--quiet"]
        run("prune", base, *data, "--method", "l1", "--keep", "5/8", "--out", out)
        ours = check.load(out / "slim.safetensors")
    importance = torch_pruning.importance.MagnitudeImportance(p=1, group_reduction="first", normalizer=None)
    pruner = torch_pruning.pruner.BasePruner(
        model, images[:1], importance=importance, pruning_ratio=3 / 8, ignored_layers=[model.linear], round_to=None
    )
    pruner.step()
    theirs = {name: value.numpy() for name, value in model.state_dict().items() if "num_batches" not in name}
    different = [name for name in theirs if not np.array_equal(ours[name], theirs[name])]
    print(f"{len(theirs) - len(different)} of {len(theirs)} tensors are the same; different: {different}")
    sys.exit(bool(different) or ours.keys() != theirs.keys())


if __name__ == "__main__":
    main()
