"""Small networks as ONNX files, drawn with onnxscript's writer or node by node; they have learnt nothing."""

import warnings

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper


class SmallReid(torch.nn.Module):
    """16 channels of an eighth of the resolution, a gate that pools too, and an embedding of 12 numbers."""

    def __init__(self, pool="mean"):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 4, stride=4)
        self.gate = torch.nn.Conv2d(8, 8, 1)
        self.last = torch.nn.Conv2d(8, 16, 2, stride=2)
        self.neck = torch.nn.Linear(16, 12)
        self.pool = pool

    def feature_map(self, images):
        x = self.stem(images).relu()
        x = x * self.gate(torch.nn.functional.adaptive_avg_pool2d(x, 1)).sigmoid()
        return self.last(x).relu()

    def forward(self, images):
        found = self.feature_map(images)
        return self.neck(POOLS[self.pool](found))


def _generalised_mean(x):
    return torch.nn.functional.adaptive_avg_pool2d(x.clamp(min=1e-6).pow(3), 1).flatten(1).pow(1 / 3)


POOLS = {
    "mean": lambda x: x.mean((2, 3)),
    "maximum": lambda x: x.amax((2, 3)),
    "adaptive": lambda x: torch.nn.functional.adaptive_avg_pool2d(x, 1).flatten(1),
    "window": lambda x: torch.nn.functional.avg_pool2d(x, tuple(int(side) for side in x.shape[2:])).flatten(1),
    "flattened": lambda x: x.flatten(2).mean(-1),
    "tokens": lambda x: x.flatten(2).transpose(1, 2).mean(1),
    "mean and maximum": lambda x: torch.nn.functional.adaptive_avg_pool2d(x, 1).flatten(1) + x.amax((2, 3)),
    "channels last": lambda x: x.permute(0, 2, 3, 1).mean((1, 2)),
    "generalised mean": _generalised_mean,
}


class SmallTransformer(torch.nn.Module):
    """Patches of 8×8 pixels behind a class token; the embedding is the class token or the mean of the patches."""

    def __init__(self, pool="class"):
        super().__init__()
        self.patches = torch.nn.Conv2d(3, 16, 8, stride=8)
        self.token = torch.nn.Parameter(torch.randn(1, 1, 16))
        self.block = torch.nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True, norm_first=True)
        self.norm = torch.nn.LayerNorm(16)
        self.neck = torch.nn.Linear(16, 12)
        self.pool = pool

    def tokens(self, images):
        patches = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(images), -1, -1), patches], 1)
        return self.norm(self.block(tokens))

    def forward(self, images):
        tokens = self.tokens(images)
        return self.neck(tokens[:, 0] if self.pool == "class" else tokens[:, 1:].mean(1))


def write_onnx(module, path, batch=None, size=(48, 24), dynamo=False, external=False):
    """A module as torch writes it; ``batch``: the only number of images that the file takes."""
    images = torch.rand(batch or (2 if dynamo else 1), 3, *size)
    names = {"input_names": ["images"], "output_names": ["embedding"], "verbose": False}
    with warnings.catch_warnings(), torch.enable_grad():  # without, a transformer has a path that ONNX does not know
        warnings.simplefilter("ignore")  # most files of the world come from the older exporter
        if dynamo:
            shapes = None if batch else ({0: torch.export.Dim("image")},)
            torch.onnx.export(
                module.eval(), (images,), path, dynamo=True, dynamic_shapes=shapes, external_data=external, **names
            )
        else:
            axes = None if batch else {"images": {0: "image"}, "embedding": {0: "image"}}
            torch.onnx.export(module.eval(), (images,), path, dynamo=False, dynamic_axes=axes, **names)
    return path


def write_nodes(path, nodes, weights, taken, given, kind=TensorProto.FLOAT):
    """A graph node by node: ``taken`` is the shape of the images, ``given`` has the shapes of the outputs."""
    inputs = [helper.make_tensor_value_info("images", kind, taken)]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in given.items()]
    initial = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "small", inputs, outputs, initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path
