"""The list of operators against what torch says of every overload there is."""

from __future__ import annotations

import torch

from autoprune.exporting.pt2._operators import PURE, TEXTS, is_pure


def test_every_name_has_an_overload_that_may_be_called() -> None:
    for name in PURE:
        packet = getattr(torch.ops.aten, name)
        assert any(is_pure(name, overload) for overload in packet.overloads()), name


def test_no_overload_that_may_be_called_writes_or_takes_more_than_data() -> None:
    seen = 0
    for name in PURE:
        packet = getattr(torch.ops.aten, name)
        for overload in packet.overloads():
            if not is_pure(name, overload):
                continue
            seen += 1
            schema = getattr(packet, overload)._schema
            text = str(schema)
            assert "!" not in text, text  # a write, as torch prints it
            assert schema.returns or name == "_assert_tensor_metadata", text
            for argument in schema.arguments:
                if "str" in str(argument.real_type) and (name, argument.name) not in TEXTS:
                    assert argument.has_default_value(), text  # and a file may not give it
    assert seen > 300


def test_what_reads_files_or_names_things_is_not_listed() -> None:
    assert not PURE & {
        "from_file",
        "set_",
        "resize_",
        "fill_",
        "empty",
        "rand",
        "randn",
        "bernoulli",
        "item",
        "_foreach_add_",
    }
    assert not is_pure("from_file", "default")
    assert not is_pure("add", "out")
    assert not is_pure("add", "str")
    assert not is_pure("no_such_operator", "default")
    assert not is_pure("add", "no_such_overload")
