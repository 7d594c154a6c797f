"""Arguments and options that several commands have."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

GalleryArgument = Annotated[str, typer.Argument(help="Id of the gallery.", show_default=False)]
ImageArgument = Annotated[
    Path, typer.Argument(help="Image file.", exists=True, dir_okay=False, show_default=False)
]
FilterOption = Annotated[
    str, typer.Option("--filter", help='Labels to pass, for example labels.site = "north".')
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
ThresholdOption = Annotated[
    float | None, typer.Option(help="Decide at this cosine instead of the gallery's threshold.")
]
RateOption = Annotated[
    float | None, typer.Option(help="Decide at the threshold of this error rate.")
]


class OneFace(StrEnum):
    """How one face of an image is selected; the part of `FaceSelection` that means one."""

    ONLY = "only"
    LARGEST = "largest"
    CENTRAL = "central"


class Fusion(StrEnum):
    """How several faces make one score; `ScoreFusion` without the unknown one."""

    MAXIMUM = "maximum"
    MEAN_OF_BEST = "mean_of_best"
    MEAN_VECTOR = "mean_vector"
    QUALITY_WEIGHTED = "quality_weighted"
    ADAPTIVE_MEAN = "adaptive_mean"


FusionOption = Annotated[
    Fusion | None,
    typer.Option(
        help="How several faces of one person make one score; adaptive_mean if not given.",
        show_default=False,
    ),
]
