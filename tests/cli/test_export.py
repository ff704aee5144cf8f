"""An exported file gives the moving average's samples, and its card describes it."""

import hashlib
import json
import sys
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate

from ganlab.cli import export
from ganlab.networks import ResNetGenerator

RUNS = {
    "dcgan": {},
    "cbn": {"norm": "conditional_batch"},
    "plain": {"classes": 0},
    "mlp": {"generator": "MLPGenerator", "data": "Ring", "classes": 0},
    "mlp_cbn": {"generator": "MLPGenerator", "data": "Ring", "classes": 8, "norm": "conditional_batch"},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, make_run):
    base = tmp_path_factory.mktemp("runs")
    return {name: (base / name, make_run(base / name, **settings)) for name, settings in RUNS.items()}


def inputs(gan, n):
    z = torch.randn(n, 5, generator=torch.Generator().manual_seed(n))
    classes = gan.conditioning.num_classes
    return (z, torch.arange(n) * 7 % classes) if classes else (z,)


def exported(runs, name, kind, tmp_path):
    folder, gan = runs[name]
    out = tmp_path / f"g{export.SUFFIXES[kind]}"
    export.main([f"run={folder}", f"format={kind}", f"out={out}"])
    card = json.loads((tmp_path / (out.name + ".json")).read_text())
    assert card["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert sorted(path.name for path in tmp_path.iterdir()) == [out.name, out.name + ".json"]
    return gan, out, card


@pytest.mark.parametrize("name", RUNS)
def test_safetensors_and_card_rebuild_the_generator(runs, name, tmp_path):
    load_file = pytest.importorskip("safetensors.torch", reason="safetensors is not installed").load_file
    gan, out, card = exported(runs, name, "safetensors", tmp_path)
    network = instantiate(card["network"], _convert_="all")
    network.load_state_dict(load_file(out))
    with torch.no_grad():
        assert torch.equal(network.eval()(*inputs(gan, 9)), gan.generate(*inputs(gan, 9)))
        assert not torch.allclose(network(*inputs(gan, 9)), gan.generator.eval()(*inputs(gan, 9)), atol=1e-2)


@pytest.mark.parametrize("name", RUNS)
def test_torchscript_matches_generator_at_other_batch_sizes(runs, name, tmp_path):
    gan, out, _ = exported(runs, name, "torchscript", tmp_path)
    module = torch.jit.load(str(out))
    for n in (1, 2, 9):
        assert torch.allclose(module(*inputs(gan, n)), gan.generate(*inputs(gan, n)), atol=1e-6)


@pytest.mark.parametrize("name", ["dcgan", "cbn", "mlp"])
def test_onnx_matches_generator_at_other_batch_sizes(runs, name, tmp_path):
    pytest.importorskip("onnxscript", reason="onnxscript is not installed: torch cannot export")
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: nothing runs the file")
    gan, out, _ = exported(runs, name, "onnx", tmp_path)
    session = onnxruntime.InferenceSession(str(out))
    assert [i.name for i in session.get_inputs()] == ["z", "y"][: len(inputs(gan, 1))]
    for n in (1, 2, 9):
        fed = dict(zip("zy", (part.numpy() for part in inputs(gan, n)), strict=False))
        (x,) = session.run(["x"], fed)
        assert torch.allclose(torch.from_numpy(x), gan.generate(*inputs(gan, n)), atol=1e-5)


@pytest.mark.parametrize("norm", ["batch", "conditional_batch"])
def test_torchscript_matches_resnet_generator(norm, tmp_path):
    torch.manual_seed(0)
    network = ResNetGenerator(5, 1, 28, 2, norm=norm, num_classes=3).eval()
    export.write_torchscript(tmp_path / "g.pt", network, (torch.randn(2, 5), torch.tensor([0, 2])))
    z, y = torch.randn(7, 5), torch.arange(7) % 3
    with torch.no_grad():
        assert torch.allclose(torch.jit.load(str(tmp_path / "g.pt"))(z, y), network(z, y), atol=1e-6)


def test_card_describes_the_checkpoint(runs, tmp_path):
    (runs["dcgan"][0] / "summary.json").write_text(json.dumps({"protocol": {"samples": 360}, "quality": {"quality/x": 9.0}}))
    _, _, card = exported(runs, "dcgan", "torchscript", tmp_path)
    assert card["family"] == "NonSaturatingGAN" and card["network"]["_target_"] == "ganlab.networks.DCGANGenerator"
    assert (card["latent_dim"], card["classes"], card["shape"], card["range"]) == (5, 10, [1, 8, 8], [-1, 1])
    assert (card["seed"], card["images_seen"], card["protocol"]) == (3, 600, {"samples": 360})
    assert card["quality"] == {"quality/x": 1.5}, "this checkpoint's, not the run's last"
    assert card["inputs"] == {"z": "float32 [n, 5] from N(0, I)", "y": "int64 [n] in 0 … 9"}


def test_cards_of_points_and_of_an_ensemble_member(runs, make_run, tmp_path):
    _, _, card = exported(runs, "mlp", "torchscript", tmp_path)
    assert (card["classes"], card["shape"], card["range"], card["protocol"]) == (0, [2], None, None)
    make_run(tmp_path / "many", seeds=[4, 5])
    export.main([f"run={tmp_path / 'many'}", "format=torchscript", "run_seed=5"])
    card = json.loads((tmp_path / "many" / "generator_seed5.pt.json").read_text())
    assert card["seed"] == 5 and card["quality_of"] == "the median member of its ensemble"


def test_unknown_format_is_refused(runs):
    with pytest.raises(ValueError, match="format must be safetensors, onnx or torchscript, got 'pickle'"):
        export.main([f"run={runs['dcgan'][0]}", "format=pickle"])


def test_directory_as_out_gets_the_default_name(runs, tmp_path):
    export.main([f"run={runs['mlp'][0]}", "format=torchscript", f"out={tmp_path}"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["generator.pt", "generator.pt.json"]


@pytest.mark.parametrize("trouble", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "stopped"])
def test_full_disk_or_interruption_leaves_nothing(runs, tmp_path, monkeypatch, trouble):
    def half(module, path):
        Path(path).write_bytes(b"half")
        raise trouble

    monkeypatch.setattr(torch.jit, "save", half)
    with pytest.raises(ValueError if isinstance(trouble, OSError) else KeyboardInterrupt):
        export.main([f"run={runs['dcgan'][0]}", "format=torchscript", f"out={tmp_path / 'g.pt'}"])
    assert not list(tmp_path.iterdir())


def test_missing_package_is_named_with_its_extra(runs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(
        ValueError, match=r'format=onnx needs onnxscript, which is not installed; pip install "ganlab\[export\]"'
    ):
        export.main([f"run={runs['dcgan'][0]}", "format=onnx", f"out={tmp_path / 'g.onnx'}"])
    assert not list(tmp_path.iterdir())
