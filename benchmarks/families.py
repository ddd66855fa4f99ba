"""Which of timm's families can do what a study asks: the smallest network of each, at two resolutions, on `meta`.

    python benchmarks/families.py [--resolutions 224 384] [--networks NAME ...]

Prints a line a network: multiply-adds an image at both resolutions, or why it is refused. Ten minutes on a core. Those
below were the smallest of each of the 98 families of timm 1.0.31.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from deit.networks.check import Unfit, check
from deit.networks.recipes import CheckedNetwork, Model

SMALLEST = """
beit_base_patch16_224 halonet_h1 test_byobnet cait_xxs24_224 coat_tiny convit_tiny convmixer_768_32 test_convnext
cpubone_nano crossvit_tiny_240 csatv2 cs3darknet_focus_s cspnext_tiny davit_tiny deepseek_vit_412m
deit_tiny_patch16_224 densenet121 dla46x_c dpn48b edgenext_xx_small efficientformer_l1 efficientformerv2_s0
test_efficientnet efficientvim_m1 efficientvit_b0 efficientvit_m0 vit_tiny_patch16_dinov3_qkvb fasternet_t0 fastvit_t8
focalnet_tiny_srf gcvit_xxtiny gemma4_vit_167m ghostnet_050 hardcorenas_b hgnetv2_b0 hiera_tiny_224 sam2_hiera_tiny
hrnet_w18_small iformer_t inception_next_atto ens_adv_inception_resnet_v2 adv_inception_v3 inception_v4 lcnetv2_small
levit_128s lowformer_b0 test_mambaout test_coatnet poolformerv2_s12 gmlp_ti16_224 mobilenetv3_small_050
mobilenetv5_base mobilevit_xxs mvitv2_tiny naflexvit_base_patch16_parfac_gap nasnetalarge jx_nest_tiny nextvit_small
test_nfnet pit_ti_224 pnasnet5large pvt_v2_b0 qwen3_vit_88m rdnet_tiny regnetx_002 repghostnet_050 repvit_m1
res2next50 resnest14d test_resnet resnetv2_18 rexnet_100 selecsls42 legacy_seresnet18 sequencer2d_s shvit_s1
skresnet18 starnet_s050 swiftformer_xs swin_tiny_patch4_window7_224 swinv2_tiny_window16_256 swinv2_cr_tiny_224
tiny_vit_5m_224 tnt_s_legacy_patch16_224 tresnet_m twins_svt_small vgg11 visformer_tiny test_vit vit_tiny_r_s16_p8_224
test_vit_relpos samvit_base_patch16_224 vitamin_small_224 volo_d1_224 ese_vovnet19b_slim_dw legacy_xception
xception41p xcit_nano_12_p8_224
"""


def network(name: str, resolution: int, initial: str = "") -> CheckedNetwork:
    model = Model(timm=name, classes=1000, channels=3, resolution=resolution, stochastic_depth=0.0)
    return CheckedNetwork(model=model, heads=1, trained=True, initial=initial)


def outcome(name: str, low: int, high: int) -> str:
    """What the check says of a network that is trained at the lower resolution and fine-tuned at the higher."""
    first = network(name, low)
    try:
        rows = [check(name, first, None), check(name, network(name, high, initial=name), first)]
    except Unfit as error:
        return f"refused: {error}"
    return "fits: " + ", ".join(f"{row['multiply_adds'] / 1e9:.2f} G at {row['resolution']}" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolutions", type=int, nargs=2, default=[224, 384])
    parser.add_argument("--networks", nargs="+", default=SMALLEST.split())
    arguments = parser.parse_args()
    for name in arguments.networks:
        print(f"{name:35} {outcome(name, *arguments.resolutions)[:200]}", flush=True)


if __name__ == "__main__":
    main()
