"""CIFAR-10 (Krizhevsky 2009)."""

import torch
from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from ganlab.data.base import Images
from ganlab.data.batches import Split


class CIFAR10(Images):
    """CIFAR-10, 3x32x32: 50,000 for training and validation, 10,000 test, in `data_dir`/cifar-10-batches-py."""

    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

    def prepare_data(self) -> None:
        """Download unless the md5 of every file is correct."""
        source = datasets.CIFAR10
        folder = self.data_dir / source.base_folder
        files = [*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])]
        wrong = [name for name, md5 in files if not check_integrity(folder / name, md5)]
        if wrong:
            problem = f"CIFAR-10 is missing, truncated or corrupt in {folder} ({', '.join(wrong)})"
            self.download(source, problem, [f"put {source.filename} with md5 {source.tgz_md5} into {self.data_dir}"])

    def load(self) -> tuple[Split, Split]:
        return self._read(train=True), self._read(train=False)

    def _read(self, train: bool) -> Split:
        source = datasets.CIFAR10(self.data_dir, train)
        return Split(torch.from_numpy(source.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(source.targets))
