"""The lines that `nervkit encode` prints about one video: source, plan, progress and result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nervkit.cli.console import approximate_duration, count_noun, format_size, say
from nervkit.cli.interruption import interruption
from nervkit.progress import duration

if TYPE_CHECKING:
    from nervkit.encoder import Callbacks
    from nervkit.encoding.report import EncodeReport
    from nervkit.encoding.run import SegmentsProgress
    from nervkit.fitting.progress import Progress
    from nervkit.plan import FitPlan
    from nervkit.video.clip import Clip

ShowFit = Callable[["Progress"], None]
ShowSegments = Callable[["SegmentsProgress"], None]


@dataclass
class EncodeDisplay:
    """Prints lines about the encode of one source and updates its progress bar.

    Attributes:
        source, output: names for messages.
        show_fit, show_segments: callbacks that update the progress bar.
    """

    source: str
    output: str
    show_fit: ShowFit
    show_segments: ShowSegments
    _announced: bool = False
    _all_known: bool = False

    def callbacks(self) -> Callbacks:
        """Return the callbacks for `Encoder.encode`."""
        from nervkit.encoder import Callbacks

        return Callbacks(
            on_clip=self._on_clip,
            on_plan=lambda plan: say(plan_line(plan)),
            on_progress=self.show_fit,
            on_segments=self._on_segments,
            on_note=lambda note: say(f"note: {note}"),
            stop=lambda: interruption.received,
        )

    def _on_clip(self, clip: Clip) -> None:
        count, height, width, _ = clip.shape
        summary = f"{count_noun(count, 'frame')} of {width}x{height}, {float(clip.fps):.3f} fps"
        say(f"{self.source}: {summary}, {clip.colour}")
        for note in clip.notes:
            say(f"note: {note}")
        interruption.request_checkpoint()

    def _on_segments(self, progress: SegmentsProgress) -> None:
        interruption.request_checkpoint()
        if not self._announced:
            say(f"{self.source}: encoding in segments, kept in {self.output}.segments")
        if progress.whole and not self._all_known:
            frames = count_noun(progress.frames, "frame")
            say(f"{self.source}: {frames} in {count_noun(progress.known, 'segment')}")
        self._announced, self._all_known = True, progress.whole
        self.show_segments(progress)


def plan_line(plan: FitPlan) -> str:
    """Format a plan, such as "gridnerv, 142,093 values, a file of about 120 kB (video 0.126 bpp),
    2,000 steps, about 2 min on 2 threads"."""
    parts = [
        f"{plan.model}, {plan.values:,} values",
        f"a file of about {format_size(plan.bytes)} (video {plan.bpp:.3g} bpp)",
    ]
    if plan.steps is None:
        return ", ".join([*parts, f"{duration(plan.seconds)} of wall-clock time"])
    left = f"the last {plan.steps - plan.done:,} of " if plan.done else ""
    threads = "" if plan.threads is None else f" on {count_noun(plan.threads, 'thread')}"
    parts += [
        f"{left}{count_noun(plan.steps, 'step')}",
        f"about {approximate_duration(plan.seconds)}{threads}",
    ]
    return ", ".join(parts)


def show_report(report: EncodeReport) -> None:
    """Print the quality, the size and the time of a finished encode."""
    similarity = "" if report.ssim is None else f", SSIM {report.ssim:.4f}"
    parts = ", ".join(f"{name} {size:,}" for name, size in report.bytes_by_part.items() if size)
    say(f"{report.output}: PSNR {report.psnr:.2f} dB{similarity} (mean of frames, 8-bit RGB)")
    if report.psnr_yuv is not None:
        say(f"PSNR {report.psnr_yuv:.2f} dB of 8-bit 4:2:0 planes (6:1:1 mean of Y, U, V)")
    say(f"{report.bytes:,} bytes ({parts}); {report.bpp:.4f} bpp of the video")
    if report.published_bpp is not None:
        counted_by = f"{report.published_bpp:.4f} bpp ({report.published_counts})"
        say(f"by the paper's accounting: {counted_by}; the file: {report.bpp:.4f} bpp")
    if len(report.segments) > 1:
        say(f"{count_noun(len(report.segments), 'segment')} (nervkit info shows them)")
    say(
        f"{report.model}: {report.parameters:,} parameters, {report.bits_per_parameter:.2f} bits "
        f"each; {report.steps} steps in {duration(report.fit_seconds)}, "
        f"{duration(report.seconds)} in all"
    )
