"""Train every case for a few batches; print what fails or becomes non-finite: python train_check.py [module ...]"""

import importlib
import logging
import sys
import time
import warnings

import torch
from bench_common import build
from lightning import LightningDataModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Data(LightningDataModule):
    def __init__(self, shape, labels, n):
        super().__init__()
        g = torch.Generator().manual_seed(0)
        x = torch.randn(n * 16, *shape, generator=g) * 0.5 + 1
        parts = x, torch.arange(len(x)) % 3
        self.set = TensorDataset(*parts)

    def train_dataloader(self):
        return DataLoader(self.set, 16, collate_fn=None)


for module in sys.argv[1:]:
    start, failed = time.time(), 0
    for case in importlib.import_module(module).CASES:
        try:
            shape = (1, 8, 8) if case.needs == "images" else (2,)
            labels = case.needs in ("labels", "ac")
            gan = build(case.factory, shape, case.needs if labels else "", pack=2 if case.needs == "pack" else 1)
            gan.discriminator_optimizer = lambda p: torch.optim.Adam(p, 2e-3, (0.0, 0.9))
            gan.generator_optimizer = lambda p: torch.optim.Adam(p, 2e-3, (0.0, 0.9))
            before = [p.detach().clone() for p in gan.generator.parameters()]
            Trainer(
                max_epochs=1,
                accelerator="cpu",
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            ).fit(gan, datamodule=Data(shape, labels, 12))
            assert all(p.isfinite().all() for p in gan.parameters()), "non-finite weights"
            if all(torch.equal(a, b) for a, b in zip(before, gan.generator.parameters())):
                print("   ", module, case.name, "G did not move")
        except Exception as e:
            failed += 1
            print("FAIL", module, case.name, type(e).__name__, str(e)[:160].replace("\n", " "))
    print(f"{module}: {failed} failed, {time.time() - start:.0f} s")
