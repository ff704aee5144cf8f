"""Each notebook runs in any directory (here with shorter trainings), is committed with outputs, and defines no loss."""

import asyncio
import inspect
from pathlib import Path

import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from ganlab.analysis import shipped_families

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))

SHORTER = {  # notebook: (text of a long computation, its replacement in the test)
    "01_losses": ("in families.items():\n    optimum", "in [*families.items()][::5]:\n    optimum"),
    "02_vanishing_gradients": ("critic_steps=1_000, every=50", "critic_steps=200, every=10"),
    "03_dirac_gan": ("analysis.dirac_gan(family)", "analysis.dirac_gan(family, steps=20)"),
    "04_mode_collapse": ("IMAGES = 60_000", "IMAGES = 6_000"),
    "05_your_first_gan": ("max_images=24_000 eval_every=4_000", "max_images=6_000 eval_every=1_000"),
}


@pytest.fixture(scope="module")
def kernel():
    """One kernel for all notebooks, since each would import torch and Lightning again."""
    manager = AsyncKernelManager()
    yield manager
    if manager.has_kernel:
        asyncio.run(manager.shutdown_kernel(now=True))


def reset_cell(directory):
    """A cell that deletes the names of the notebook before and changes to the directory."""
    return nbformat.v4.new_code_cell(f"%reset -f\n%cd -q {directory}")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path, kernel):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    long, short = SHORTER.get(path.stem, ("", ""))
    assert sum(cell.source.count(long) for cell in code) == 1 or not long
    assert all(cell.execution_count for cell in code), "commit it with its outputs"
    assert any("image/png" in output.get("data", {}) for cell in code for output in cell.outputs), "no picture"
    assert not any(output.get("name") == "stderr" for cell in code for output in cell.outputs), "it warns"
    assert not any("(GAN)" in cell.source or "def generator_loss" in cell.source for cell in code)
    assert str(Path.home()) not in path.read_text() and "/tmp/" not in path.read_text()
    for cell in code:
        cell.source = cell.source.replace(long, short)
    notebook.cells.insert(0, reset_cell(tmp_path))
    try:
        NotebookClient(notebook, km=kernel, timeout=300).execute(cleanup_kc=False)
    except CellExecutionError as error:  # its text has the cell and the traceback
        pytest.fail(str(error), pytrace=False)


def test_notebook_names_the_divergences_as_the_families_do():
    text = next(path for path in NOTEBOOKS if path.stem == "01_losses").read_text()
    for family in shipped_families().values():
        if family.divergence is not None:
            assert f" {inspect.getdoc(family.divergence).splitlines()[0].rstrip('.')} " in text
