"""A small data set to look into runs of."""

from tests.runs.conftest import dataset_id, shapes, ws

__all__ = ["dataset_id", "shapes", "ws"]
