"""Encode a long video on a Ray cluster, and show the progress of its segments.

    pip install "nervkit[ray]"
    ray start --head                                 # on the first machine
    ray start --address=FIRST-MACHINE:6379           # on every other one
    python examples/cluster.py film.mkv film.nerv auto

Workers read the source themselves, so it must have the same path on all machines. If the output
folder does too, workers keep their checkpoints there. The address `local` starts a cluster on this
machine.
"""

import sys

import nervkit
from nervkit.encoding.run import SegmentsProgress


def show(progress: SegmentsProgress) -> None:
    running = ", ".join(f"#{i} {p.step}/{p.steps}" for i, p in sorted(progress.running.items()))
    more = "" if progress.whole else " or more"
    print(f"{progress.done} of {progress.known}{more} segments done; running: {running or '-'}")


if __name__ == "__main__":
    source, output, address = sys.argv[1:]
    report = nervkit.encode(
        source,
        output,
        preset="fast",
        ray=address,
        on_segments=show,
        on_note=print,
    )
    for segment in report.segments:
        print(f"{segment['first']:>7} {segment['frames']:>5} frames {segment['psnr']:.2f} dB")
    print(f"{report.bytes:,} bytes, {report.psnr:.2f} dB")
