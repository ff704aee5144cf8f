import pytest
from lightning.pytorch.loggers import Logger


class MemoryLogger(Logger):
    """Keeps its rows: (step, metrics)."""

    name, version = "memory", None

    def __init__(self):
        super().__init__()
        self.rows = []

    def log_metrics(self, metrics, step=None):
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, *args, **kwargs):
        pass


@pytest.fixture
def memory():
    return MemoryLogger()
