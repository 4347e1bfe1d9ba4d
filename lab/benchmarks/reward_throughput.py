"""Groups a second of PerFusionRM's training, against loops that encode each (prompt, image) pair by itself.

    python -m lab.benchmarks.reward_throughput            on the tiny family, random pictures

Three ways to take the same optimizer steps, in turns within one run, each with fresh plug-ins:

    ours        one pass over all images of the batch, prompt and user encoded once a group, prompts without padding
    pairs       one pass, but every image with its own copy of the prompt, padded to 77 tokens
    one by one  each (prompt, image) pair its own pass, as in a plain loop over a data set

All three in fp32 and eager mode; `ours` also with the frozen backbone in bfloat16. Writes
build/bench/reward_throughput.json.
"""

from pathlib import Path

from lab.benchmarks.options import parse_arguments


def main() -> None:
    arguments = parse_arguments(__doc__, "reward/", groups=32, out=Path("build/bench/reward_throughput.json"))

    from lab.benchmarks.reward_ways import run  # torch takes seconds to load

    run(arguments)


if __name__ == "__main__":
    main()
