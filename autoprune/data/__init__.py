"""Images in three disjoint parts, calibration, search and report, and the door for a user's own."""

from autoprune.data._adapt import Adapted, Images, adapt, as_dataset, by_index, is_function, sampled_order
from autoprune.data._check import Expected, failed, image_keys, to_tensor
from autoprune.data._example import examples_in
from autoprune.data._factory import data_sources
from autoprune.data._fingerprint import fingerprint_parts, name_of
from autoprune.data._held import Held
from autoprune.data._items import UNLABELLED, Items
from autoprune.data._labels import labels_in
from autoprune.data._load import is_own, load_data, load_raw
from autoprune.data._nested import Nested, RunBatch, bytes_in, keys_of, moved
from autoprune.data._preparation import Preparation
from autoprune.data._seeded import seeded
from autoprune.data._stream import Stream
from autoprune.data._types import CALIBRATION, Data, ImageArrays

__all__ = [
    "CALIBRATION",
    "UNLABELLED",
    "Adapted",
    "Data",
    "Expected",
    "Held",
    "ImageArrays",
    "Images",
    "Items",
    "Nested",
    "Preparation",
    "RunBatch",
    "Stream",
    "adapt",
    "as_dataset",
    "by_index",
    "bytes_in",
    "data_sources",
    "examples_in",
    "failed",
    "fingerprint_parts",
    "image_keys",
    "is_function",
    "is_own",
    "keys_of",
    "labels_in",
    "load_data",
    "load_raw",
    "moved",
    "name_of",
    "sampled_order",
    "seeded",
    "to_tensor",
]
