"""What holds for every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from ._backward import watched


@pytest.fixture(autouse=True, scope="session")
def safe_backward_passes() -> Iterator[None]:
    with watched():
        yield


def process_wide() -> tuple[object, ...]:
    """Return what of torch holds for the whole process."""
    return (
        torch._C._len_torch_function_stack(),
        len(_get_current_dispatch_mode_stack()),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_default_dtype(),
        torch.backends.mkldnn.enabled,
        torch.backends.mha.get_fastpath_enabled(),
        torch.get_num_threads(),
    )


@pytest.fixture(autouse=True)
def torch_is_as_it_was() -> Iterator[None]:
    before = process_wide()
    yield
    assert process_wide() == before
