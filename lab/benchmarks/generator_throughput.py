"""Groups a second of PerFusion's training, against a direct implementation of the paper's equations.

    python -m lab.benchmarks.generator_throughput          on the tiny family, random pictures

Ways to take the same optimizer step of the group-level objective, in turns within one run, each with fresh adapters:

    ours        one encoder pass for policy and reference, latents and text states from the caches
    separate    a second U-Net in memory as the reference, each with its whole pass; caches as ours
    plain       the same, and every step encodes its pictures and its prompts, a copy for each picture

Writes build/bench/generator_throughput.json.
"""

from pathlib import Path

from lab.benchmarks.options import parse_arguments


def main() -> None:
    arguments = parse_arguments(__doc__, "pipeline/", groups=16, out=Path("build/bench/generator_throughput.json"))

    from lab.benchmarks.generator_ways import run  # torch takes seconds to load

    run(arguments)


if __name__ == "__main__":
    main()
