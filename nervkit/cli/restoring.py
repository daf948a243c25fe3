"""What denoise, inpaint and interpolate share: options, running, following, telling."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nervkit.cli.console import counted, emit, following_all, say
from nervkit.cli.interruption import going_on, interruption
from nervkit.errors import Interrupted, UsageError
from nervkit.progress import duration

if TYPE_CHECKING:
    from nervkit.restoration.task import RestoreReport
    from nervkit.video.clip import Clip

SOURCE_HELP = "A video, a folder of images, a pattern (%05d.png), .y4m, .yuv, .npy, or -."


def restore(
    what: str, run: Callable[..., Any], source: str, output: str, json: bool, **chosen: Any
) -> None:
    """Run `nervkit.<what>` with all options that were given."""
    if json and output == "-":
        raise UsageError("--json and -o - both need stdout; choose one")
    noted: set[str] = set()

    def note(text: str) -> None:
        if text not in noted:
            noted.add(text)
            say(f"note: {text}")

    def on_clip(clip: Clip) -> None:
        count, height, width, _ = clip.shape
        say(f"{source}: {counted(count, 'frame')} of {width}x{height}, {float(clip.fps):.3f} fps")
        for text in clip.notes:
            note(text)
        interruption.ask()

    with following_all(what) as (on_search, on_progress, on_frame):
        try:
            report: RestoreReport = run(
                source,
                output=output,
                on_clip=on_clip,
                on_search=on_search,
                on_progress=on_progress,
                on_frame=on_frame,
                on_note=note,
                stop=lambda: interruption.came,
                **{name: value for name, value in chosen.items() if value is not None},
            )
        except Interrupted as error:
            raise going_on(error) from error
    for text in report.notes:
        note(text)
    if json:
        emit(report.to_dict())
    details = ", ".join(
        f"{name.replace('_', ' ')} {_text(v)}" for name, v in report.details.items()
    )
    say(
        f"{report.output}: {counted(report.frames, 'frame')} of "
        f"{report.width}x{report.height}; {details}"
    )
    fit = "no fit"
    if report.model is not None:
        fit = f"{report.model}: {report.parameters:,} parameters, {report.steps} steps in "
        fit += duration(report.fit_seconds)
    say(f"{fit}, {duration(report.seconds)} in all")


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
