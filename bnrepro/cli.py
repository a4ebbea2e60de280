"""The command line: `bnrepro VERB`. Torch, Hydra, pandas and matplotlib are imported only where a verb needs them."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

import bnrepro
from bnrepro.core import checks, paths, records, schema
from bnrepro.evidence import verbs as evidence

DEFAULTS = {"scale": "quick", "out": "outputs"}


def main(arguments: list[str] | None = None) -> None:
    os.environ.pop("MPLBACKEND", None)  # no verb opens a window, and a wrong name would stop matplotlib's import
    running = (list_experiments, new, run, reproduce, evidence.power, evidence.decide, data)
    verbs = (*running, draw, claims, report, check, status, inspect, publish)
    from bnrepro.plan import parser as accepted

    parser = accepted.build(verbs, bnrepro.__version__)
    options, rest = parser.parse_known_args(arguments)
    try:
        flags = {name: value for name, value in vars(options).items() if name not in ("verb", "words")}
        code = options.verb([*options.words, *rest], **flags)
    except (checks.ConfigError, records.RecordError) as error:
        print(error, file=sys.stderr)
        code = 2
    except BrokenPipeError:  # whoever reads has enough, as `bnrepro list | head -1` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        code = 130
    sys.exit(code)


def list_experiments(words: list[str]) -> int:
    """the experiments: name, source, runs, cost and state"""
    from bnrepro.report import overview

    names, options = _split(words)
    for name in names or paths.experiments():
        print(overview.experiment_line(name, _home(name, options), options["scale"]))
    return 0


def new(words: list[str]) -> int:
    """write the two files of an experiment of your own, small and commented, into the folder where you stand"""
    from bnrepro.plan import new

    names, _ = _split(words)
    if len(names) != 1:
        raise checks.ConfigError("new", " ".join(names), "give one name, e.g. bnrepro new my_figure")
    print(*(f"wrote {path}" for path in new.write(names[0])), sep="\n")
    print(f"next: bnrepro run {names[0]}, then bnrepro draw {names[0]}")
    return 0


def run(words: list[str], cfg: str | None = None, info: str | None = None, hydra_help: bool = False) -> int:
    """plan the grid of an experiment and run what is missing; any field can be overridden or swept"""
    from bnrepro.draw import experiment
    from bnrepro.plan import hydra_app

    words = [f"experiment={word}" if word in paths.experiments() else word for word in words]
    asked = {"--cfg": cfg, "--info": info, "--hydra-help": "" if hydra_help else None}
    for flag, value in asked.items():
        if value is not None:
            return hydra_app.ask([flag, *([value] if value else [])], words)
    if any(word.partition("=")[0] in ("until", "budget") for word in words):
        return evidence.decide(words)
    names = [word.partition("=")[2] for word in words if word.startswith("experiment=")]
    if not names:
        raise checks.ConfigError("experiment", None, f"must be one of {', '.join(paths.experiments())}")
    experiment.rehearse(names[0])
    return hydra_app.run(words)


def reproduce(words: list[str]) -> int:
    """run, draw and report; all experiments if none is named"""
    names, options = _split(words, overrides=True)
    given = [word for word in words if "=" in word]
    codes = [run([f"experiment={name}", *given]) for name in names or paths.experiments()]
    return max([report([*names, f"scale={options['scale']}", f"out={options['out']}"]), *codes])


def draw(words: list[str], format: str | None = None, style: str | None = None) -> int:
    """draw figures and judge claims from saved tables; --committed redraws results/"""
    from bnrepro.draw import export
    from bnrepro.report import drawing, gallery
    from bnrepro.report import publish as publishing

    words, committed = _committed(words)
    places = _places(words, committed)
    if committed:
        publishing.check_writable(places)
    drawn = drawing.each(places, drawing.from_tables if committed else drawing.from_runs)
    if format:
        for name, home in drawn.items():
            print(f"figure: {export.save(name, home, format, style)}")
    if committed:
        gallery.write()
    return 0 if len(drawn) == len(places) else 2


def claims(words: list[str], form: str) -> int:
    """the published claims as a table for a paper; with scale=SCALE those of your own runs"""
    from bnrepro.report import cite

    own = any("=" in word for word in words)
    print(cite.text(_places(words, committed=not own), form))
    return 0


def report(words: list[str]) -> int:
    """draw what has runs and put figures and claims on one page; --committed does so from results/"""
    from bnrepro.report import drawing, page

    plain, committed = _committed(words)
    places, options = _places(plain, committed), _split(plain)[1]
    target = Path(options["out"]) / ("committed" if committed else options["scale"]) / "report.html"
    redraw = partial(page.redrawn, target=target.parent)
    drawn = drawing.each(places, redraw if committed else drawing.from_runs)
    if drawn:
        page.write(drawn, target, committed)
        print(f"page: {target}")
    return 0 if len(drawn) == len(places) else 2


def check(words: list[str]) -> int:
    """compare committed figures, verdicts and README with what tables and scripts give; exit code 1 if any differs"""
    from bnrepro.report import check as checking
    from bnrepro.report import gallery

    places = _places(words, committed=True)
    found = [line for name, home in places.items() for line in checking.mismatches(name, home)]
    for document in gallery.outdated():
        found.append(f"{document}: does not say what is in results/; write it: bnrepro draw --committed")
    print("\n".join(found or [f"{len(places)} figures in {paths.RESULTS} follow from their tables"]))
    return 1 if found else 0


def _committed(words: list[str]) -> tuple[list[str], bool]:
    return [word for word in words if word != "--committed"], "--committed" in words


def status(words: list[str]) -> int:
    """every run with its status, step, time and directory"""
    from bnrepro.report import overview

    names, options = _split(words)
    for name in names or paths.experiments():
        print(*overview.run_lines(name, _home(name, options)), sep="\n")
    return 0


def inspect(runs: list[str], statistic: str | None, figure: str | None, tensorboard: str | None, out: str) -> int:
    """gradients of one run, or of two side by side: heat map, curves, and what they mean"""
    from bnrepro.gradients import terminal, view

    if len(runs) not in (1, 2):
        raise records.RecordError(f"inspect: {len(runs)} runs given; give one or two, each by directory or name")
    looks = [view.find(run, Path(out)) for run in runs]
    terminal.show(looks, statistic)
    if figure:
        from bnrepro.gradients import heatmap

        heatmap.save(looks, figure, statistic)
        print(f"figure: {figure}")
    if tensorboard:
        from bnrepro.gradients import export

        for one in looks:
            print(f"tensorboard: {export.export(one, Path(tensorboard))}")
    return 0


def data(words: list[str]) -> int:
    """fetch or verify a dataset and say where it lies"""
    import yaml

    from bnrepro.data import named, sources

    names, options = _split(words, overrides=True)
    for name in names or ["mnist5k"]:
        if name not in paths.choices("data"):
            raise checks.ConfigError("data", name, checks.one_of(name, paths.choices("data")))
        given = options.keys() - DEFAULTS.keys()
        fields = {key.removeprefix("data."): yaml.safe_load(options[key]) for key in options if key in given}
        print(sources.describe(named.config(name, fields)))
    return 0


def publish(words: list[str]) -> int:
    """copy tables and figures of clean runs from OUT/SCALE/NAME to results/NAME, and show them in the README"""
    from bnrepro.report import gallery
    from bnrepro.report import publish as publishing

    names, options = _split(words)
    if not names:
        raise checks.ConfigError("publish", "", "name the experiments to publish")
    for name in names:
        publishing.publish(name, _home(name, options))
        print(f"published {paths.home(name).results / name}")
    if any(paths.home(name) == paths.packaged() for name in names):
        gallery.write()
    return 0


def _home(name: str, options: dict[str, str]) -> Path:
    from bnrepro.report import overview

    return overview.home(name, Path(options["out"]) / options["scale"])


def _places(words: list[str], committed: bool) -> dict[str, Path]:
    """The directories of the experiments that are named, or of all that have runs. Raises RecordError for none."""
    from bnrepro.report import overview

    names, options = _split(words)
    return overview.places(names, None if committed else Path(options["out"]) / options["scale"])


def _split(words: list[str], overrides: bool = False) -> tuple[list[str], dict[str, str]]:
    """Names, and key=value options; other keys than scale and out are errors unless they are overrides of a run."""
    names = [word for word in words if "=" not in word]
    options = DEFAULTS | dict(word.split("=", 1) for word in words if "=" in word)
    for key in options.keys() - DEFAULTS.keys():
        if not overrides:
            raise checks.ConfigError(key, options[key], checks.one_of(key, DEFAULTS))
    if options["scale"] not in schema.SCALES:
        raise checks.ConfigError("scale", options["scale"], checks.one_of(options["scale"], schema.SCALES))
    for name in names:
        if name.startswith("-"):
            raise checks.ConfigError("option", name, "no such option")
    return names, options
