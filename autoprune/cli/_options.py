"""Options that several verbs share, and how their values are read."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from autoprune.errors import UsageError
from autoprune.registry import check_name

_MOST_DIGITS = 18
"""Most digits of a whole number; Python refuses to read thousands of them."""


def _allowable(names: list[str] | None) -> list[str] | None:
    for name in names or ():
        check_name(name)
    return names


Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="cluttered-digits, digits, cifar-resnet20/32/44/56/110, cifar-vgg16, cifar-plain20, torchvision:NAME, timm:NAME, "
        "package.module:factory or path/to/file.py:factory.",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights", metavar="FILE", help="A .safetensors or .pth file, or the name of a torchvision weights enum."
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DATA",
        help="cluttered-digits, digits, cifar10:ROOT, fashion-mnist:ROOT, imagefolder:ROOT, package.module:factory or "
        "path/to/file.py:factory.",
    ),
]
Mean = Annotated[
    str | None, typer.Option("--mean", metavar="M,..", help="Mean per channel, if the model does not say it.")
]
Std = Annotated[str | None, typer.Option("--std", metavar="S,..", help="Standard deviation per channel, likewise.")]
InputSize = Annotated[
    str | None,
    typer.Option(
        "--input-size",
        metavar="CxHxW",
        help="Shape of one image (or its side), or CxL, CxDxHxW in one and three dimensions, if the model does not say it.",
    ),
]
Resize = Annotated[
    str | None,
    typer.Option(
        "--resize",
        metavar="N|HxW|none",
        help="Pictures of an image folder: resize the shorter side to N, or both.  [default: to 8/7 of the input, unless a "
        "picture has just its size]",
    ),
]
Crop = Annotated[
    str | None,
    typer.Option("--crop", metavar="N|HxW|none", help="Then cut that out at the centre.  [default: the input's size]"),
]
Transform = Annotated[
    str | None,
    typer.Option(
        "--transform", metavar="MODULE:FUNCTION", help="Instead: your function from a PIL image to a tensor (C, H, W)."
    ),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore",
        metavar="PATTERN",
        help="Keep all channels of the modules whose paths match, for instance 'head.*'; may be given several times.",
    ),
]
Bounds = Annotated[
    list[str] | None,
    typer.Option(
        "--bounds",
        metavar="PATTERN=LEAST:MOST",
        help="Least and most share of the channels that stays there, for instance 'layer4.*=0.5:1.0', or one share that is "
        "fixed; may be given several times.",
    ),
]
Part = Annotated[
    list[str] | None,
    typer.Option(
        "--part",
        metavar="PATH",
        help="Prune this submodule only ('backbone'), on what it gets while the whole network runs; may be given several times.",
    ),
]
Run = Annotated[
    str | None,
    typer.Option(
        "--run",
        metavar="MODULE:FUNCTION",
        help="Your function run(model, batch), package.module:function or file.py:function, where what the data yield does not "
        "say how the network is called.",
    ),
]
Download = Annotated[bool, typer.Option("--download", help="Download the data if they are missing.")]
Device = Annotated[str | None, typer.Option("--device", help="cpu, cuda or cuda:N.  [default: cpu]")]
Race = Annotated[
    bool | None,
    typer.Option(
        "--race", help="Stop scoring a policy once it is clearly worse, image by image, than the best simple rule."
    ),
]
Finetuned = Annotated[
    str | None,
    typer.Option(
        "--finetuned", metavar="NAME", help="The network of this fine-tuning of the run (distilled, plain, ..)."
    ),
]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        "--allow",
        metavar="MODULE:NAME",
        help="Let a run, policy or export name this code of yours (also file.py:name); else what files name is not run.",
        callback=_allowable,
    ),
]
NoTime = Annotated[bool, typer.Option("--no-time", help="Do not measure times.")]
Threads = Annotated[int | None, typer.Option("--threads", help="Threads of the measured times.  [default: PyTorch's]")]
TensorBoard = Annotated[
    bool,
    typer.Option("--tensorboard", help="Write event files to RUN/tensorboard (pip install 'autoprune[tensorboard]')."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback when something fails.")]


def numbers(text: str | None, option: str) -> tuple[float, ...]:
    """Read ``0.485,0.456,0.406``; empty for None.

    Raises:
        UsageError: if it is not a list of numbers.
    """
    if text is None:
        return ()
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"The value of {option} is '{text}', but must be numbers with commas between.") from error


def shape(text: str | None) -> tuple[int, ...]:
    """Read ``3x32x32`` (likewise ``1x16000``, ``3x8x32x32``), or ``32`` alone, a side; empty for None.

    Raises:
        UsageError: if it is not such a shape.
    """
    if text is None:
        return ()
    parts = text.lower().split("x")
    if len(parts) <= 4 and all(part.isdecimal() and len(part) <= _MOST_DIGITS and int(part) > 0 for part in parts):
        return tuple(int(part) for part in parts)
    raise UsageError(
        f"The value of --input-size is '{text}', but must be like 3x32x32 (channels, height, width) or 32; in one dimension "
        "like 1x16000, in three like 3x8x32x32."
    )


def sides(text: str | None, option: str) -> tuple[int, ...] | None:
    """Read ``256``, ``224x224`` or ``none``, which is (); None for None.

    Raises:
        UsageError: if it is none of these.
    """
    if text is None or text == "none":
        return None if text is None else ()
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and len(part) <= _MOST_DIGITS and int(part) > 0 for part in parts):
        raise UsageError(f"The value of {option} is '{text}', but must be like 256, 224x224 (height, width) or none.")
    return tuple(int(part) for part in parts)


def preparation(resize: str | None, crop: str | None, transform: str | None) -> dict[str, Any]:
    """Read what is to be done to pictures, as keys of a run's configuration; None for what was not said.

    Raises:
        UsageError: if a value cannot be read.
    """
    cut = sides(crop, "--crop")
    return {
        "resize": sides(resize, "--resize"),
        "crop": cut * 2 if cut is not None and len(cut) == 1 else cut,
        "transform": transform,
    }


def bounds(pairs: list[str] | None) -> dict[str, tuple[float, float]] | None:
    """Read ``["layer4.*=0.5:1.0", "stem=0.5"]``; None for None.

    Raises:
        UsageError: if one is not like that, or a pattern is given twice.
    """
    if not pairs:
        return None
    found: dict[str, tuple[float, float]] = {}
    for pair in pairs:
        pattern, equals, text = pair.rpartition("=")
        low, colon, high = text.partition(":")
        try:
            share = float(low), float(high if colon else low)
        except ValueError:
            equals = ""
        if not (pattern and equals):
            raise UsageError(
                f"The value of --bounds is '{pair}', but must be a pattern with the least and the most share of the channels "
                "that stays, like 'layer4.*=0.5:1.0', or with one share, like 'stem=0.5'."
            )
        if pattern in found:
            raise UsageError(f"The pattern '{pattern}' of --bounds was given twice; give one of the two.")
        found[pattern] = share
    return found


def settings(pairs: list[str], *, option: str = "--agent-option") -> dict[str, Any]:
    """Read ``["noise=0.5", "name=text"]``: values are JSON where they can be read as such, else text.

    Raises:
        UsageError: if one has no equals sign.
    """
    from autoprune.support.strict_json import parse_json

    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise UsageError(f"The value of {option} is '{pair}', but must be like name=value.")
        try:
            values[name.replace("-", "_")] = parse_json(value)
        except (ValueError, RecursionError):
            values[name.replace("-", "_")] = value
    return values


def multiple(text: str) -> int | None:
    """Read ``--round-to``; None for auto.

    Raises:
        UsageError: if it is neither.
    """
    if text == "auto":
        return None
    if not text.isdecimal() or len(text) > _MOST_DIGITS or int(text) < 1:
        raise UsageError(f"The value of --round-to is '{text}', but must be a whole number of at least 1, or auto.")
    return int(text)
