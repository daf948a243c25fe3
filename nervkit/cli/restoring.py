"""The common part of the commands denoise, inpaint and interpolate."""

from __future__ import annotations

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
    details = ", ".join(
        f"{name.replace('_', ' ')} {_text(v)}" for name, v in report.details.items()
    )
    say(
        f"{report.output}: {count_noun(report.frames, 'frame')} of "
        f"{report.width}x{report.height}; {details}"
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


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
