"""A figure that is drawn already, once more from its figure.csv: in another format, or into a figure of yours."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from bnrepro.core import checks, paths, records
from bnrepro.draw import edges, experiment

FORMATS = ("pdf", "eps")  # beside figure.svg and figure.png, which are there already


def figure(name: str, into: Any = None, directory: str | Path | None = None) -> Any:
    """Draw an experiment's figure from its published figure.csv, without title, into a matplotlib Figure or SubFigure.

    `into` None: a new Figure as wide as a page (7 inches). `directory` holds figure.csv, e.g.
    "outputs/quick/lr_sweep"; None: the published one. It is drawn under your own rcParams. Returns the figure.

    Raises RecordError, naming the file.
    """
    from matplotlib.figure import Figure

    from bnrepro.core import style

    if name not in paths.experiments():
        raise records.RecordError(f"{name}: no such experiment; `bnrepro list` shows them")
    home = paths.home(name).results / name if directory is None else Path(directory)
    if not (home / "figure.csv").exists():
        raise records.RecordError(f"{home / 'figure.csv'}: not there; make it: bnrepro draw {name}")
    data = records.read(home / "figure.csv", "figure")
    style.learn((records.read_json(home / "protocol.json") or {}).get("looks", {}))
    drawn = Figure(figsize=(style.WIDTH, 3.2)) if into is None else into
    with experiment.blamed(paths.home(name).script(name)):
        experiment.load(name).draw(data[data["panel"] != edges.PANEL], drawn)
    return drawn


def save(name: str, home: Path, file_format: str, style_file: str | None = None) -> Path:
    """Write figure.FORMAT beside figure.csv, as wide as a page; `style_file` is a style of matplotlib or its file.

    Raises ConfigError for a format or a style that cannot be used.
    """
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from bnrepro.core import style

    if file_format not in FORMATS:
        raise checks.ConfigError("--format", file_format, checks.one_of(file_format, FORMATS))
    with style.context():
        try:
            matplotlib.style.use([style_file] if style_file else [])
        except OSError as error:
            words = " ".join(str(error).split())
            raise checks.ConfigError(
                "--style", style_file, f"must be a style of matplotlib or its file: {words}"
            ) from None
        drawn = figure(name, directory=home)
        FigureCanvasAgg(drawn)  # its text is measured as that of a picture
        drawn.suptitle("\n".join(textwrap.wrap(experiment.about(name)["title"], style.LINE)), fontsize=8)
        target = home / f"figure.{file_format}"
        drawn.savefig(target, metadata={"CreationDate": None} if file_format == "pdf" else None)
    return target
