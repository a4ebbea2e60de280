"""What the command line accepts: a sub-command for each verb, with its flags and an example of its use."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

EXAMPLES = {
    "list": "bnrepro list",
    "new": "bnrepro new my_figure",
    "run": "bnrepro run sigmoid_gradients scale=laptop data.root=DIR model.width=50,100 dry_run=true",
    "reproduce": "bnrepro reproduce scale=quick",
    "power": "bnrepro power placement batch_renorm --json",
    "decide": "bnrepro decide placement batch_renorm scale=laptop data.root=DIR budget=6h",
    "draw": "bnrepro draw sigmoid_gradients scale=laptop --format pdf",
    "claims": "bnrepro claims sigmoid_gradients --latex",
    "report": "bnrepro report scale=laptop",
    "check": "bnrepro check",
    "status": "bnrepro status lr_sweep",
    "inspect": "bnrepro inspect norm=none_width=100_seed=100-16ff3ded --figure layers.png",
    "data": "bnrepro data mnist data.root=DIR",
    "publish": "bnrepro publish sigmoid_gradients scale=laptop",
}
EXIT_CODES = """exit codes: 0 done, 1 a run failed or a check differs, 2 a wrong word, file or setting (one line says),
130 interrupted (the same command continues)"""


def build(verbs: Sequence[Callable[..., int]], version: str) -> argparse.ArgumentParser:
    """The parser of `bnrepro`; a verb has the name of its function up to an underscore, and its docstring."""
    parser = argparse.ArgumentParser(
        prog="bnrepro", description="Reproduce the figures of the Batch Normalization literature.", epilog=EXIT_CODES
    )
    parser.add_argument("--version", action="version", version=f"bnrepro {version}")
    added = parser.add_subparsers(metavar="VERB", required=True)
    for function in verbs:
        name = function.__name__.split("_")[0]
        verb = added.add_parser(
            name, help=function.__doc__, description=function.__doc__, epilog=_epilog(name),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        verb.add_argument("words", nargs="*", metavar="NAME or key=value")
        verb.set_defaults(verb=function)
    added.choices["power"].add_argument("--json", action="store_true", dest="as_json", help="one entry a claim")
    _inspect(added.choices["inspect"])
    _draw(added.choices["draw"])
    _claims(added.choices["claims"])
    _run(added.choices["run"])
    return parser


def _epilog(verb: str) -> str:
    from bnrepro.plan import hydra_app

    lines = hydra_app.help_lines() if verb in ("run", "reproduce") else []
    return "\n  ".join(lines) + "\n\n" * bool(lines) + f"example: {EXAMPLES[verb]}"


def _inspect(flags: argparse.ArgumentParser) -> None:
    flags.add_argument(
        "--statistic", metavar="NAME", help="what to show, as layers.csv names it; default: the gradient"
    )
    flags.add_argument("--figure", metavar="FILE", help="write a picture too: .png, .svg or .pdf")
    flags.add_argument("--tensorboard", metavar="DIR", help="write every row as a scalar of TensorBoard too")
    flags.add_argument("--out", metavar="DIR", default="outputs", help="where runs are looked for by name")


def _draw(flags: argparse.ArgumentParser) -> None:
    flags.add_argument(
        "--format", metavar="FORMAT", help="write figure.pdf or figure.eps too, without the setting's line"
    )
    flags.add_argument("--style", metavar="FILE", help="for --format: a style of matplotlib, or its file")


def _claims(flags: argparse.ArgumentParser) -> None:
    forms = flags.add_mutually_exclusive_group()
    for form, said in (
        ("markdown", "a table (the default)"),
        ("latex", "a tabular (booktabs)"),
        ("json", "all columns"),
    ):
        forms.add_argument(f"--{form}", dest="form", action="store_const", const=form, help=said)
    flags.set_defaults(form="markdown")


def _run(flags: argparse.ArgumentParser) -> None:
    """Hydra's own questions; they start nothing."""
    flags.add_argument("--cfg", choices=("job", "hydra", "all"), help="print the composed configuration")
    flags.add_argument("--info", choices=("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
                       help="print what Hydra knows")  # fmt: skip
    flags.add_argument("--hydra-help", action="store_true", help="print Hydra's own help")
