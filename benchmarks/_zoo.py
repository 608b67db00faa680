"""Networks that differ: what the benchmarks of the coupling graph run on, with random weights and small images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torchvision
from torch import nn


@dataclass(frozen=True)
class Entry:
    """One network.

    Attributes:
        source: "autoprune", "torchvision", "segmentation" or "timm".
        name: Its name there.
        family: The architecture it belongs to.
        side: Height and width of the images.
        mixing: Whether tokens are mixed by attention or by MLPs over positions, rather than by convolutions alone.
        options: Passed to the constructor.
    """

    source: str
    name: str
    family: str
    side: int = 64
    mixing: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Return what names it in files and on the command line."""
        return f"{self.source}:{self.name}"


def build(entry: Entry) -> nn.Module:
    """Return the network with random weights."""
    if entry.source == "autoprune":
        from autoprune.models import load_model

        return load_model(entry.name).model
    model: nn.Module
    if entry.source == "timm":
        import timm

        model = timm.create_model(entry.name, pretrained=False, **entry.options)
    else:
        backbone = {"weights_backbone": None, "num_classes": 10} if entry.source == "segmentation" else {}
        model = torchvision.models.get_model(entry.name, weights=None, **backbone, **entry.options)
    return model


def _many(source: str, family: str, names: str, side: int = 64, *, mixing: bool = False, **options: Any) -> list[Entry]:
    return [Entry(source, name, family, side, mixing, options) for name in names.split()]


def _torchvision() -> list[Entry]:
    tv = "torchvision"
    return [
        *_many(tv, "alexnet", "alexnet"),
        *_many(tv, "vgg", "vgg11 vgg16_bn", 32),
        *_many(tv, "resnet", "resnet18 resnet50"),
        *_many(tv, "wide resnet", "wide_resnet50_2"),
        *_many(tv, "resnext", "resnext50_32x4d"),
        *_many(tv, "densenet", "densenet121 densenet169"),
        *_many(tv, "googlenet", "googlenet", init_weights=False),
        *_many(tv, "inception", "inception_v3", 96, init_weights=False),
        *_many(tv, "mobilenet v2", "mobilenet_v2"),
        *_many(tv, "mobilenet v3", "mobilenet_v3_small mobilenet_v3_large"),
        *_many(tv, "mnasnet", "mnasnet0_5 mnasnet1_0"),
        *_many(tv, "efficientnet", "efficientnet_b0 efficientnet_b1"),
        *_many(tv, "efficientnet v2", "efficientnet_v2_s"),
        *_many(tv, "regnet", "regnet_x_400mf regnet_y_400mf"),
        *_many(tv, "shufflenet", "shufflenet_v2_x0_5 shufflenet_v2_x1_0"),
        *_many(tv, "squeezenet", "squeezenet1_0 squeezenet1_1"),
        *_many(tv, "convnext", "convnext_tiny"),
        *_many(tv, "vit", "vit_b_16", mixing=True, image_size=64),
        *_many(tv, "swin", "swin_t swin_v2_t", mixing=True),
        *_many(tv, "maxvit", "maxvit_t", 224, mixing=True),
        *_many("segmentation", "deeplabv3", "deeplabv3_resnet50 deeplabv3_mobilenet_v3_large"),
        *_many("segmentation", "lraspp", "lraspp_mobilenet_v3_large"),
        *_many("segmentation", "fcn", "fcn_resnet50"),
    ]


def _timm() -> list[Entry]:
    t = "timm"
    return [
        *_many(t, "resnet", "resnet10t resnet26d resnetblur50 resnetaa50"),
        *_many(t, "resnet v2", "resnetv2_50"),
        *_many(t, "se-resnet", "seresnet18 legacy_seresnet18"),
        *_many(t, "eca", "ecaresnet26t eca_nfnet_l0"),
        *_many(t, "gc-resnet", "gcresnet33ts"),
        *_many(t, "sk-resnet", "skresnet18"),
        *_many(t, "resnest", "resnest14d"),
        *_many(t, "res2net", "res2net50_14w_8s"),
        *_many(t, "resnext", "resnext26ts"),
        *_many(t, "tresnet", "tresnet_m"),
        *_many(t, "repvgg", "repvgg_a0"),
        *_many(t, "gernet", "gernet_s"),
        *_many(t, "mobileone", "mobileone_s0"),
        *_many(t, "cspnet", "cspresnet50 cspdarknet53 cs3darknet_s darknet53"),
        *_many(t, "dla", "dla34 dla46x_c"),
        *_many(t, "dpn", "dpn48b dpn68"),
        *_many(t, "densenet", "densenetblur121d"),
        *_many(t, "rdnet", "rdnet_tiny"),
        *_many(t, "ghostnet", "ghostnet_050 ghostnetv2_100 repghostnet_050"),
        *_many(
            t,
            "efficientnet",
            "efficientnet_lite0 mixnet_s tinynet_e fbnetc_100 spnasnet_100 semnasnet_075 mobilenet_edgetpu_v2_xs",
        ),
        *_many(t, "efficientnet v2", "efficientnetv2_rw_t"),
        *_many(t, "condconv", "efficientnet_cc_b0_4e"),
        *_many(t, "mobilenet v1", "mobilenetv1_100"),
        *_many(t, "mobilenet v3", "mobilenetv3_small_050 lcnet_050 fbnetv3_b hardcorenas_a"),
        *_many(t, "mobilenet v4", "mobilenetv4_conv_small"),
        *_many(t, "hgnet", "hgnet_tiny hgnetv2_b0"),
        *_many(t, "hrnet", "hrnet_w18_small"),
        *_many(t, "inception", "inception_v4 inception_resnet_v2", 96),
        *_many(t, "inception-next", "inception_next_atto"),
        *_many(t, "nasnet", "nasnetalarge", 96),
        *_many(t, "pnasnet", "pnasnet5large", 96),
        *_many(t, "nfnet", "nf_regnet_b0 nf_resnet50"),
        *_many(t, "regnet", "regnetx_002 regnety_002 regnetz_005"),
        *_many(t, "rexnet", "rexnet_100"),
        *_many(t, "selecsls", "selecsls42b"),
        *_many(t, "vovnet", "vovnet39a ese_vovnet19b_dw"),
        *_many(t, "xception", "xception41 legacy_xception"),
        *_many(t, "convnext", "convnext_atto convnextv2_atto"),
        *_many(t, "convmixer", "convmixer_768_32"),
        *_many(t, "edgenext", "edgenext_xx_small", mixing=True),
        *_many(t, "fastvit", "fastvit_t8"),
        *_many(t, "repvit", "repvit_m0_9"),
        *_many(t, "starnet", "starnet_s1"),
        *_many(t, "mambaout", "mambaout_femto"),
        *_many(t, "focalnet", "focalnet_tiny_srf"),
        *_many(t, "poolformer", "poolformer_s12 poolformerv2_s12 convformer_s18"),
        *_many(t, "vgg", "vgg11_bn", 32),
        *_many(t, "efficientvit", "efficientvit_b0", mixing=True),
        *_many(t, "mobilevit", "mobilevit_xxs mobilevitv2_050", mixing=True),
        *_many(t, "efficientformer", "efficientformer_l1", 224, mixing=True),
        *_many(t, "nextvit", "nextvit_small", mixing=True),
        *_many(t, "visformer", "visformer_tiny", mixing=True, img_size=64),
        *_many(t, "vit", "vit_tiny_patch16_224", mixing=True, img_size=64),
        *_many(t, "mlp-mixer", "mixer_s32_224 resmlp_12_224", mixing=True, img_size=64),
        *_many(t, "pvt", "pvt_v2_b0", mixing=True),
        *_many(t, "levit", "levit_128s", 224, mixing=True),
    ]


def zoo() -> list[Entry]:
    """Return all networks."""
    own = [
        *_many("autoprune", "cifar resnet", "cifar-resnet20 cifar-resnet56", 32),
        *_many("autoprune", "cifar vgg", "cifar-vgg16", 32),
        *_many("autoprune", "cifar plain", "cifar-plain20", 32),
    ]
    return [*own, *_torchvision(), *_timm()]
