"""PerFusionRM at its real size: a ViT-H/14 `CLIPModel` with random weights, one training step and one export.

    python -m lab.benchmarks.full_size_reward           needs 8 GiB of memory and 4 of disk, minutes

Builds the configuration that PickScore is published in (laion/CLIP-ViT-H-14-laion2B-s32B-b79K), attaches the plug-ins,
takes one step on a group of five 224×224 pictures with gradient checkpointing, exports both towers to ONNX with
external data and runs them in ONNX Runtime. Writes build/bench/full_size_reward.json: seconds and GiB of each part.
"""

from pathlib import Path

from training.common.commands import parser_of


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/bench/full_size_reward.json"))
    parser.add_argument("--keep", action="store_true", help="leave the exported models beside the report")
    parser.add_argument("--bf16", action="store_true", help="hold the frozen backbone in bfloat16 while training")
    arguments = parser.parse_args()

    from lab.benchmarks.full_size_clip import run  # torch takes seconds to load

    run(arguments)


if __name__ == "__main__":
    main()
