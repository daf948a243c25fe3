"""The common part of the commands denoise, inpaint and interpolate."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nervkit.cli.console import count_noun, emit, following_all, say
from nervkit.cli.interruption import interruption, with_resume_hint
from nervkit.errors import Interrupted, UsageError
from nervkit.progress import duration

if TYPE_CHECKING:
    from nervkit.fitting.progress import Progress
    from nervkit.restoration.task import RestoreReport
    from nervkit.video.clip import Clip

LEAST_DEVIATION = 0.05  # of noise that is shown, in 8-bit steps
SOURCE_HELP = "A video, a folder of images, a pattern (%05d.png), .y4m, .yuv, .npy, or - (stdin)."


def restore(
    task: str, method: Callable[..., Any], source: str, output: str, json: bool, **options: Any
) -> None:
    """Call `method` with the options that are set, show its progress, and print its report."""
    if json and output == "-":
        raise UsageError("--json and -o - both need stdout; choose one")
    report = _run(task, method, source, output, options)
    if json:
        emit(report.to_dict())
    say(
        f"{report.output}: {count_noun(report.frames, 'frame')} of "
        f"{report.width}x{report.height}; {_found(task, report.details)}"
    )
    fit = "no fit"
    if report.model is not None:
        fit = f"{report.model}: {report.parameters:,} parameters, {report.steps} steps in "
        fit += duration(report.fit_seconds)
    say(f"{fit}, {duration(report.seconds)} in all")


def _run(
    task: str, method: Callable[..., Any], source: str, output: str, options: dict[str, Any]
) -> RestoreReport:
    """Call `method`, showing its progress and each note once."""
    from nervkit.restoration.task import SEARCH

    noted: set[str] = set()

    def note(text: str) -> None:
        if text not in noted:
            noted.add(text)
            say(f"note: {text}")

    def on_clip(clip: Clip) -> None:
        count, height, width, _ = clip.shape
        say(
            f"{source}: {count_noun(count, 'frame')} of {width}x{height}, {float(clip.fps):.3f} fps"
        )
        for text in clip.notes:
            note(text)
        interruption.request_checkpoint()

    with following_all(task) as (on_search, show_fit, on_frame):

        def on_progress(progress: Progress) -> None:
            # `on_search` and `on_frame` show the other phases.
            if progress.phase not in (SEARCH, task):
                show_fit(progress)

        try:
            report: RestoreReport = method(
                source,
                output=output,
                on_clip=on_clip,
                on_search=on_search,
                on_progress=on_progress,
                on_frame=on_frame,
                on_note=note,
                stop=lambda: interruption.received,
                **{name: value for name, value in options.items() if value is not None},
            )
        except Interrupted as error:
            raise with_resume_hint(error) from error
    for text in report.notes:
        note(text)
    return report


def _found(task: str, details: dict[str, Any]) -> str:
    """Return the measurements of a restoration as a text."""
    if task == "inpaint":
        texts = [
            f"{_percent(details['unknown_share'])} of the pixels were unknown",
            f"{_percent(details['found_share'])} of these were found in other frames",
        ]
        if missing := details["missing_frames"]:
            texts.append(f"{count_noun(missing, 'frame')} had no known pixel")
    elif task == "interpolate":
        texts = [count_noun(details["new_frames"], "new frame")]
        if between := details["between_segments"]:
            texts.append(f"{between:,} of these lie between two segments")
    else:
        deviation, impulses = details["noise_deviation"], details["impulse_share"]
        texts = []
        if deviation >= LEAST_DEVIATION:
            texts.append(f"noise of standard deviation {deviation:.3g} (of 255)")
        if impulses:
            texts.append(f"impulses in {_percent(impulses)} of the pixels")
    return "; ".join(texts) or "no noise found"


def _percent(share: float) -> str:
    """Format a share, such as 3.8%, 0.3% or 0.0001%."""
    percent = 100 * share
    digits = 1 if percent >= 0.1 or not percent else math.ceil(-math.log10(percent))
    return f"{percent:.{digits}f}".removesuffix(".0") + "%"
