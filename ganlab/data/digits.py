"""Labeled color and gray images that libraries read for us."""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from ganlab.data.base import Images
from ganlab.data.batches import Split
from ganlab.data.download import download


class Digits(Images):
    """scikit-learn's 1,797 handwritten digits 1x8x8 (the test part of UCI's optical digits), shipped inside it.

    Gray values 0..16 become 0..255 by rounding. A fixed stratified split: 1,437 train, 360 test.
    """

    classes = tuple("0123456789")

    def load(self) -> tuple[Split, Split]:
        digits = load_digits()
        x = torch.from_numpy(digits.images * (255 / 16)).round().to(torch.uint8).unsqueeze(1)
        y = torch.from_numpy(digits.target).long()
        train, test = train_test_split(range(len(y)), test_size=360, stratify=y, random_state=0)
        return Split(x[train], y[train]), Split(x[test], y[test])


class CIFAR10(Images):
    """CIFAR-10 (Krizhevsky 2009), 3x32x32: 50,000 train, 10,000 test, in torchvision's place under `data_dir`."""

    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

    def prepare_data(self) -> None:
        """Download unless every file's md5 is right; FileNotFoundError that names the wrong files if that fails."""
        source = datasets.CIFAR10
        folder = self.data_dir / source.base_folder
        files = [*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])]
        wrong = [name for name, md5 in files if not check_integrity(folder / name, md5)]
        if wrong:
            download(
                source,
                self.data_dir,
                tried=f"CIFAR-10 is missing, truncated or corrupt in {folder} ({', '.join(wrong)})",
                ways_out=[f"put {source.filename} with md5 {source.tgz_md5} into {self.data_dir}"],
            )

    def load(self) -> tuple[Split, Split]:
        splits = [datasets.CIFAR10(self.data_dir, train=train) for train in (True, False)]
        train, test = (
            Split(torch.from_numpy(s.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(s.targets)) for s in splits
        )
        return train, test
