"""The command line: what each verb says, and that a mistake is one line before anything is written or trained."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from PIL import Image

from bnrepro import cli
from bnrepro.core import paths, records, run_dir
from bnrepro.core.schema import MLP, Config, Train
from bnrepro.plan import parser, sweep

RUN = ("run", "experiment=sigmoid_gradients", "data=synthetic", "seed=0", "model.norm=batch", "model.width=5")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Commands run in an empty directory, so that out=outputs lies there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def bnrepro(capfd):
    """bnrepro("list"): exit code, standard output and standard error, in this process."""

    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            cli.main(list(words))
        return left.value.code, *capfd.readouterr()

    return call


@pytest.fixture
def refused(bnrepro, elsewhere):
    """refused("run", ...): the single line said, after which there is nothing that was not there before."""

    def call(*words: str) -> str:
        before = sorted(elsewhere.rglob("*"))
        code, out, err = bnrepro(*words)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1 and err.endswith("\n") and "Traceback" not in err, err
        assert sorted(elsewhere.rglob("*")) == before
        return err.rstrip()

    return call


# Names, keys and values


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("experiment=sigmoid_gradient", "must be one of *, lr_sweep, *, did you mean sigmoid_gradients?"),
        ("experiment=", "must be one of *"),
        ("experiment=lr_sweep,mean_field", "only one at a time; *"),
        ("scale=quick,laptop", "only one at a time; *"),
        ("model=mpl", "must be one of mlp, resnet, vgg11, did you mean mlp?"),
        ("data=minst", "must be one of *, mnist, mnist5k, synthetic, *, did you mean mnist?"),
        ("optim=sdg", "must be one of adam, rmsprop, sgd, torch, did you mean sgd?*"),
        ("schedule=stpe", "must be one of constant, cosine, step, did you mean step?"),
        ("scale=qick", "must be one of quick, laptop, paper, did you mean quick?"),
        ("cifar=cifar", "must be one of cifar10, *, did you mean cifar10?"),
        ("model.norm=bach", "must be one of none, batch, batch_manual, *, did you mean batch?"),
        ("model.kind=mpl", "must be one of mlp, vgg11, resnet, did you mean mlp?"),
        ("data.kind=minst", "must be one of *, did you mean mnist?"),
        ("optim.lrr=1", "no such field, did you mean optim.lr?"),
        ("+optim.lrr=1", "no such field, did you mean optim.lr?"),
        ("++optim.lrr=1", "no such field, did you mean optim.lr?"),
        ("lr=0.1", "no such field, did you mean optim.lr?"),
        ("+lr=0.1", "no such field, did you mean optim.lr?"),
        ("model.widht=3", "no such field, did you mean model.width?"),
        ("sed=3", "no such field, did you mean seed?"),
        ("dryrun=true", "no such field, did you mean dry_run?"),
        ("optim.beta1=0.9", "no such field of optim rmsprop*"),
        ("+optim.beta1=0.9", "no such field of optim rmsprop*"),
        ("model.head=linear", "no such field of model mlp*"),
        ("optim.lr=-1", "must be greater than 0"),
        ("optim.lr=0", "must be greater than 0"),
        ("optim.lr=abc", "must be a number"),
        ("optim.lr=", "must be a number"),
        ("optim.lr=null", "must be a number"),
        ("optim.lr=nan", "must be finite"),
        ("optim.lr=inf", "must be finite"),
        ("optim.lr=[0.1,0.2]", "must be a number"),
        ("optim.decay=1", "must be less than 1"),
        ("data.batch_size=0", "must be at least 1"),
        ("data.batch_size=1", "must be at least 2 with model.norm=batch: *"),
        ("data.batch_size=1.5", "must be a whole number"),
        ("data.flip=maybe", "must be true or false"),
        ("seed=-1", "must be at least 0"),
        ("seed=0.5", "must be a whole number"),
        ("seed=true", "must be a whole number"),
        ("model.depth=0", "must be at least 1"),
        ("model.norm=off", "must be one of none, batch, batch_manual, *"),
        ("model.norm=false", "must be one of none, batch, batch_manual, *"),
        ("train.epochs=1", "give exactly one of the two *"),
        ("probes.steps=3", "must be a list, *"),
        ("probes.statistics=[grad_fro,foo]", "must be one of *grad_spectral, *"),
        ("device=gpu", "must be one of auto, cpu, cuda, *"),
        ("task=tran", "must be one of train, *, did you mean train?"),
        ("jobs=0", "must be at least 1"),
        ("jobs=many", "must be a whole number or null"),
        ("dry_run=maybe", "must be true or false"),
        ("dry_run=true,false", "is of the sweep as a whole and takes one value"),
        ("dry_run=range(1,1)", "holds no value"),
        ("seed=range(5,5)", "holds no value"),
        ("out=a,b", "is of the sweep as a whole and takes one value"),
        ("out=null", "must be text"),
        ("engine_minutes=0", "must be greater than 0"),
        ("model.kind=[1,2]", "must be one of *"),
        ("data.batch_size=range(1,5,0)", "cannot be swept: *"),
        ("seed=glob(*)", "cannot be swept: *"),
        ("seed=range(0,1000000000)", "holds more than 10000 values"),
        ("data.crop=99999999999", "must be at most 512"),
        ("threads=100000", "must be at most 1024"),
        ("train.steps=99999999999999999999", "must be at most *"),
        ("model.depth=99999999999", "needs * GiB of memory, and at most *"),
        ("data.size=99999999999", "needs * GiB of memory, and at most *"),
        ("probes.steps=[-1,0]", "must be at least 1"),
        ("probes.steps=[999999]", "holds none of the 50 steps of the run"),
        ("probes.depths=[99]", "holds none of 1 to 11, *"),
        ("probes.depths=[0]", "holds none of 1 to 11, *"),
        ("device=cuda:²", "must be one of auto, cpu, cuda, *"),
        ("hydra/launcher=slurm", "not installed; pip install *submitit*"),
        ("model.depth=3,0", "must be at least 1"),
        ("model.norm=batch,none,off", "must be one of none, batch, batch_manual, *"),
    ],
)
def test_a_mistake_is_one_line_with_the_field_the_value_and_what_would_do(refused, word, said):
    line = refused(*RUN, word)
    name, _, value = word.lstrip("+").partition("=")
    shown, _, expected = line.partition(": ")
    assert shown.startswith(f"{name}=")
    values = [one for one in value.strip("[]").split(",") if "," not in value or one in shown]
    assert values and values[-1].lower().lstrip("-") in shown.lower()
    assert all(part in expected for part in said.split("*")) and expected.startswith(said.split("*")[0])
    assert said.endswith("*") or expected.endswith(said.rsplit("*", 1)[-1])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("mean_field model.norm=group model.width=48", "model.groups=32: must divide the channels of every layer (48)"),
        ("vgg_curves model.norm=group", "model.groups=32: must divide the channels of every layer (8, 16, 32, 64)"),
        (
            "vgg_curves model.norm=layer model.ghost=8",
            "model.ghost=8: only with model.norm=batch or renorm, here layer",
        ),
        ("vgg_curves model.norm=renorm model.ghost=3", "model.ghost=3: must divide data.batch_size=64, with *"),
        ("vgg_curves model.norm=batch model.ghost=8 data.last_batch=keep", "model.ghost=8: must divide *=drop"),
        ("vgg_curves model.norm=none model.alternate=batch", "model.alternate=batch: needs model.norm to alternate *"),
        ("vgg_curves model.head=torchvision model.drop=0.1", "model.drop=0.1: only with model.head=linear: *"),
        ("vgg_curves model.head=torchvision model.noise=unit", "model.noise=unit: only with model.head=linear: *"),
        (
            "mean_field model.norm=group model.groups=1 model.alternate=batch data.batch_size=1",
            "data.batch_size=1: must be at least 2 with model.norm=batch, group: *",
        ),
        ("sigmoid_gradients data=linear_map train.stalled_below=null data.clump=2", "data.clump=2: must be 1 for *"),
        ("vgg_curves model.norm=layer model.alternate=batch model.eps=0", "model.eps=0: must be above 0 *"),
    ],
)
def test_settings_that_do_not_go_together(refused, words, said):
    first, _, rest = said.partition("*")
    line = refused("run", *f"experiment={words}".split())
    assert line.startswith(first) and line.endswith(rest)


@pytest.mark.parametrize(
    "words",
    [["optim.lr"], ["-x"], ["--package", "x"], ["--dry-run"], ["optim.lr=("], ['optim.lr="a'], ["model.width=${foo}"],
     ["~optim=rmsprop"], ["~optim.lr"], ["hydra/launcher=nope"], ["hydra.foo=1"], ["optim={lr:1}"]],
)  # fmt: skip
def test_what_hydra_cannot_read_is_one_line_too(refused, words):
    assert words[0].lstrip("~") in refused(*RUN, *words) or "optim.kind=null" in refused(*RUN, *words)


def test_the_experiment_must_be_named(refused):
    line = refused("run", "seed=0")
    assert line.startswith("experiment=null: must be one of ") and "lr_sweep" in line


def test_a_mistake_in_the_last_of_200_runs_is_found_before_the_first(refused):
    rates = ",".join(f"{i / 1000}" for i in range(1, 200))
    started = time.monotonic()
    assert refused(*RUN, "-m", f"optim.lr={rates},abc") == "optim.lr=abc: must be a number"
    assert refused(*RUN, "-m", f"optim.lr={rates},-1") == "optim.lr=-1.0: must be greater than 0"
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["draw", "lr_swep"], "experiment=lr_swep: must be one of *, did you mean lr_sweep?"),
        (["draw", "--comitted"], "option=--comitted: no such option"),
        (["draw", "lr_sweep", "scal=quick"], "scal=quick: must be one of scale, out, did you mean scale?"),
        (["draw", "lr_sweep", "scale=qick"], "scale=qick: must be one of quick, laptop, paper, did you mean quick?"),
        (["draw", "lr_sweep"], "outputs/quick/lr_sweep: no runs of lr_sweep; start them: bnrepro run *=lr_sweep"),
        (["report", "lr_swep"], "experiment=lr_swep: must be one of *, did you mean lr_sweep?"),
        (["report", "ot=x"], "ot=x: must be one of scale, out, did you mean out?"),
        (["report"], "outputs/quick: no runs; start them: bnrepro reproduce"),
        (["report", "lr_sweep"], "outputs/quick/lr_sweep: no runs of lr_sweep; start them: bnrepro run *=lr_sweep"),
        (["check", "lr_swep"], "experiment=lr_swep: must be one of *, did you mean lr_sweep?"),
        (["status", "lr_swep"], "experiment=lr_swep: must be one of *, did you mean lr_sweep?"),
        (["status", "ot=x"], "ot=x: must be one of scale, out, did you mean out?"),
        (["list", "lr_swep"], "experiment=lr_swep: must be one of *, did you mean lr_sweep?"),
        (["publish"], "publish=: name the experiments to publish"),
        (["publish", "lr_swep"], "experiment=lr_swep: must be one of *, did you mean lr_sweep?"),
        (["publish", "lr_sweep"], "outputs/quick/lr_sweep/runs.csv: not there"),
        (["data", "minst"], "data=minst: must be one of *, did you mean mnist?"),
        (["data", "mnist5k", "data.rot=x"], "data.rot=x: no such field of data mnist5k, did you mean data.root?"),
        (["data", "image_folder"], "data.path=null: must name the directory that holds train/ and test/"),
        (["data", "image_folder", "data.path=gone"], "data.path=gone: gone/train is missing: *"),
        (["reproduce", "lr_swep"], "experiment=lr_swep: must be one of *, did you mean lr_sweep?"),
        (["reproduce", "lr_sweep", "optim.lrr=1"], "optim.lrr=1: no such field, did you mean optim.lr?"),
    ],
)  # fmt: skip
def test_the_other_verbs_name_a_bad_word_too(refused, words, said):
    line = refused(*words)
    assert line.startswith(said.split("*")[0]) and (said.endswith("*") or line.endswith(said.rsplit("*", 1)[-1]))


def test_an_out_that_is_a_file_is_one_line_for_every_verb(refused, bnrepro, elsewhere, inline):
    (elsewhere / "file").write_text("x")
    for out in ("file", "file/below"):
        line = refused(*RUN, f"out={out}")
        assert line.startswith("out=") and "file" in line and "cannot be written" in line
        assert "lr_sweep: no runs in file/" in bnrepro("status", "lr_sweep", "out=file")[1]
        assert bnrepro("list", "out=file")[0] == 0
        assert "no runs" in refused("draw", "lr_sweep", "out=file")
        assert "not there" in refused("publish", "lr_sweep", "out=file")


# Data


@pytest.fixture
def inline(monkeypatch):
    """The look at the data before a sweep, in this process: that of the fork server takes seconds to start."""

    class Process:
        def __init__(self, target, args):
            self.start = lambda: target(*args)

        def join(self):
            pass

    context = type("Context", (), {"Pipe": staticmethod(multiprocessing.Pipe), "Process": Process})
    monkeypatch.setattr(sweep, "processes", context)


@pytest.fixture
def offline(monkeypatch):
    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no route\nto host")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.mark.parametrize(("name", "file"), [("mnist", "train-images-idx3-ubyte"), ("cifar10", "data_batch_1")])
def test_data_that_are_missing_and_cannot_be_fetched(bnrepro, elsewhere, inline, offline, name, file):
    code, out, err = bnrepro(*RUN, f"data={name}", "data.root=gone")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"data.root=gone: {file}, ") and "missing in gone/" in err and "no route to host" in err
    assert "expected MD5" in err and "data=mnist5k" in err
    assert not (elsewhere / "outputs").exists()


def test_a_truncated_idx_file(refused, elsewhere, inline, offline):
    raw = elsewhere / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{part}-ubyte").write_bytes(bytes(100))
    line = refused(*RUN, "data=mnist", f"data.root={elsewhere / 'data'}")
    assert line.startswith(f"data.root={elsewhere / 'data'}: {raw / 'train-images-idx3-ubyte'} is truncated: 100 of")
    assert "delete it" in line


def test_a_truncated_cifar_archive(refused, elsewhere, inline, offline):
    archive = elsewhere / "data" / "cifar-10-python.tar.gz"
    archive.parent.mkdir()
    archive.write_bytes(gzip.compress(bytes(range(256)) * 100)[:-20])
    line = refused(*RUN, "data=cifar10", f"data.root={archive.parent}")
    assert f"{archive} is truncated" in line and "expected MD5 c58f30108f718f92721af3b95e74349a" in line


@pytest.fixture
def folder(elsewhere):
    base = elsewhere / "images"
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (base / split / name).mkdir(parents=True)
            for i in range(3):
                Image.new("RGB", (8, 8), (40 * i, 9, 9)).save(base / split / name / f"{i}.png")
    return base


IMAGES = ("data=image_folder", "data.path=images", "data.root=cache", "data.batch_size=2", "model.depth=1")


def test_an_image_folder_with_a_class_missing_in_the_test_set(refused, folder, inline):
    shutil.rmtree(folder / "test" / "dog")
    assert refused(*RUN, *IMAGES) == "data.path=images: class dog is in images/train but not in images/test"


def test_an_image_folder_with_an_unreadable_image(refused, folder, inline):
    broken = folder / "train" / "dog" / "1.png"
    broken.write_bytes(broken.read_bytes()[:40])
    assert "data.path=images: images/train/dog/1.png cannot be read as an image" in refused(*RUN, *IMAGES)


def test_a_warm_up_as_long_as_the_run(refused, inline):
    line = refused(*RUN, "data.size=100", "data.batch_size=10", "train.steps=10", "schedule.warmup=1")
    assert line.startswith("schedule.warmup=1.0: must be less than the 10 steps of the run, which has 10 in an epoch")


def test_an_optimizer_of_torch_is_pointed_to(refused):
    assert "optim=torch optim.name=AdamW" in refused(*RUN, "optim=adamw")


def test_a_batch_larger_than_the_data(refused, inline):
    line = refused(*RUN, "data.size=50", "data.batch_size=51")
    assert line == "data.batch_size=51: must be at most 50, the number of training images"


def test_a_device_that_is_not_there(refused, inline):
    assert refused(*RUN, "device=cuda:99").startswith("device=cuda:99: this machine has ")


# Runs and tables that were damaged


@pytest.fixture
def finished(elsewhere):
    """OUT/SCALE/NAME of two completed runs, written by hand."""
    home = elsewhere / "outputs" / "quick" / "sigmoid_gradients"
    for seed in (0, 1):
        directory = home / "runs" / f"seed={seed}-0000000{seed}"
        run_dir.freeze(Config(seed=seed, model=MLP(width=5), train=Train(steps=10)), directory)
        records.write_json({"status": "completed", "step": 10, "seconds": 1.5}, directory / "status.json")
        for name, row in (("metrics", (10, 1.0, "test", "accuracy", 0.5)), ("layers", (10, 1, "l1", "grad_fro", 0.5))):
            table = records.Table(directory / f"{name}.csv", name, directory.name)
            table.write([row, row])
            table.close()
    names = sorted(path.name for path in (home / "runs").iterdir())
    records.write_json({"command": "", "axes": ["model.norm"], "runs": names}, home / "plan.json")
    return home


@pytest.mark.parametrize("run", [0, 1])
@pytest.mark.parametrize("name", ["metrics", "layers"])
@pytest.mark.parametrize("cut", [1, 4, 12])
def test_a_runs_table_cut_in_mid_row_is_named_with_its_line(bnrepro, finished, name, run, cut):
    path = sorted((finished / "runs").iterdir())[run] / f"{name}.csv"
    path.write_text(path.read_text()[:-cut])
    code, out, err = bnrepro("draw", "sigmoid_gradients")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"{path.relative_to(finished.parents[2])}, line 3: ") and "the file was cut" in err
    assert not (finished / "figure.csv").exists()


def test_an_empty_table_of_a_completed_run_is_named(bnrepro, finished):
    path = next((finished / "runs").glob("*/metrics.csv"))
    path.write_text("")
    code, _, err = bnrepro("draw", "sigmoid_gradients")
    assert code == 2 and f"{path.relative_to(finished.parents[2])}, line 1: the header" in err


@pytest.mark.parametrize("name", ["runs", "metrics", "layers"])
def test_a_joined_table_cut_in_mid_row_is_named_with_its_line(bnrepro, finished, name):
    """What others are handed: tables without the runs that they were made of."""
    from bnrepro.draw import collect

    collect.tables(finished)
    shutil.rmtree(finished / "runs")
    (finished / "plan.json").unlink()
    path = finished / f"{name}.csv"
    lines = path.read_text().splitlines()
    path.write_text(path.read_text()[:-6])
    code, out, err = bnrepro("draw", "sigmoid_gradients")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"outputs/quick/sigmoid_gradients/{name}.csv, line {len(lines)}: ")


@pytest.mark.parametrize("verb", ["draw", "status", "list", "report"])
def test_half_a_plan_is_one_line(bnrepro, finished, verb):
    (finished / "plan.json").write_text('{"runs": ["a"')
    code, _, err = bnrepro(verb, "sigmoid_gradients")
    assert code == 2 and err.startswith("outputs/quick/sigmoid_gradients/plan.json: ") and err.count("\n") == 1


def test_status_and_list_count_what_the_files_say(bnrepro, finished):
    code, out, err = bnrepro("status", "sigmoid_gradients")
    assert (code, err) == (0, "")
    home = "outputs/quick/sigmoid_gradients/runs"
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        f"completed step 10 1.5 s {home}/seed=0-00000000",
        f"completed step 10 1.5 s {home}/seed=1-00000001",
    ]
    shutil.rmtree(sorted((finished / "runs").iterdir())[1])
    out = bnrepro("list")[1]
    assert [line.split()[0] for line in out.splitlines()] == paths.experiments()
    assert "1 completed, 1 pending" in next(line for line in out.splitlines() if line.startswith("sigmoid_gradients"))


def test_a_dry_run_lists_every_run_and_writes_nothing(bnrepro, elsewhere):
    code, out, err = bnrepro("run", "experiment=sigmoid_gradients", "dry_run=true")
    assert (code, err) == (0, "")
    *runs, last = out.splitlines()
    assert last == f"{len(runs)} runs, nothing started" and len(runs) == 20
    assert all(line.startswith("pending ") for line in runs)
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize(
    ("words", "runs"),
    [("lr_sweep model=mlp model.depth=3", 28), ("lr_sweep model=vgg11", 28), ("overhead model=mlp", 30),
     ("sigmoid_gradients out=./李明 seed=0", 4), ("sigmoid_gradients out=a=b seed=0", 4)],
)  # fmt: skip
def test_one_arm_can_be_chosen_and_any_letter_typed(bnrepro, words, runs):
    code, out, err = bnrepro("run", *words.split(), "dry_run=true")
    assert (code, err) == (0, "") and out.splitlines()[-1] == f"{runs} runs, nothing started"


def test_a_dry_run_tells_that_data_are_not_there(bnrepro):
    code, out, err = bnrepro(*RUN, "data=mnist", "data.root=gone", "dry_run=true")
    assert (code, err) == (0, "") and "data: mnist is not in gone/MNIST/raw" in out


@pytest.mark.parametrize(
    ("text", "said"),
    [("def data(:", "line 1: invalid syntax"), ("import nothing_of_this_name", "line 1: ModuleNotFoundError"),
     ("", "no function data, draw, claims")],
)  # fmt: skip
def test_a_script_that_cannot_draw_is_named_before_the_first_step(refused, elsewhere, text, said):
    for path in (elsewhere / "conf" / "experiment" / "mine.yaml", elsewhere / "experiments" / "mine.py"):
        path.parent.mkdir(parents=True)
        path.write_text(text if path.suffix == ".py" else "title: x\nsource: y\nscales: {quick: {}}")
    line = refused("run", "mine")
    assert f"experiments/mine.py{', ' if said.startswith('line') else ': '}{said}" in line


# Help, and what is imported


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("sigmoid_gradients", "--cfg", "job", "model.depth=3"), "depth: 3"),
        (("--cfg", "job", "lr_sweep"), "title: Accuracy against learning rate"),
        (("--info", "searchpath", "lr_sweep"), "Config search path"),
        (("--hydra-help",), "Hydra (1."),
    ],
)
def test_hydras_own_questions_are_answered_and_start_nothing(bnrepro, elsewhere, words, said):
    code, out, _ = bnrepro("run", *words)
    assert code == 0 and said in out and not list(elsewhere.iterdir())


@pytest.mark.parametrize("verb", parser.EXAMPLES)
def test_every_verb_has_help_with_an_example(bnrepro, verb):
    code, out, err = bnrepro(verb, "--help")
    assert (code, err) == (0, "")
    assert f"example: bnrepro {verb}" in " ".join(out.split())
    assert verb in bnrepro("--help")[1]


def test_the_examples_are_commands_that_exist(bnrepro):
    code, out, err = bnrepro(*parser.EXAMPLES["run"].split()[1:])
    assert (code, err) == (0, "") and "nothing started" in out


def imported(code: str, *arguments: str) -> set[str]:
    """The packages that a new process has imported at its end."""
    code = f"import sys\ntry:\n {code}\nexcept SystemExit: pass\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stderr.split()}


HEAVY = {"torch", "torchvision", "hydra", "pandas", "matplotlib", "scipy", "numpy"}


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["list"], ["status"]])
def test_verbs_that_only_look_import_nothing_heavy(words):
    assert not HEAVY & imported("from bnrepro import cli; cli.main()", *words)


def test_importing_the_command_imports_nothing_heavy():
    assert not HEAVY & imported("import bnrepro.cli")


def test_running_imports_neither_hydra_nor_what_draws():
    found = imported("import bnrepro.train.execute, bnrepro.train.trainer, bnrepro.plan.warm")
    assert "torch" in found and not {"hydra", "omegaconf", "matplotlib", "pandas"} & found


def test_drawing_imports_neither_torch_nor_hydra():
    code = "from bnrepro.core import paths, style\n from bnrepro.draw import experiment, figures, select, stats\n"
    code += " from bnrepro.report import check, page\n for name in paths.experiments(): experiment.load(name)\n"
    code += " import matplotlib.pyplot, pandas, scipy.special, jinja2"
    assert not {"torch", "torchvision", "hydra"} & imported(code)


@pytest.mark.parametrize("words", [["report", "--committed"], ["check"]])
def test_the_verbs_that_draw_import_neither_torch_nor_hydra(words):
    found = imported("from bnrepro import cli; cli.main()", *words)
    assert "matplotlib" in found and not {"torch", "torchvision", "hydra"} & found


# The real thing, in processes of their own


def test_a_mistake_ends_the_command_with_code_2_and_one_line(elsewhere):
    done = subprocess.run([sys.executable, "-m", "bnrepro", *RUN, "optim=sdg"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("optim=sdg: must be one of adam, rmsprop, sgd, torch, did you mean sgd?")
    assert done.stderr.count("\n") == 1
    assert not list(elsewhere.iterdir())


COMMANDS = """
import contextlib, io, json, os, sys
from bnrepro import cli
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            cli.main(words)
        except SystemExit as left:
            code = left.code
    print(json.dumps([code, out.getvalue(), err.getvalue(), os.path.exists("outputs")]))
"""


def test_a_sweep_needs_good_data_runs_once_and_then_has_nothing_to_do(elsewhere, folder):
    """Three commands in one process, since each process of commands starts a fork server, which takes seconds."""
    shutil.copytree(folder, elsewhere / "damaged")
    (elsewhere / "damaged" / "test" / "cat" / "0.png").write_bytes(b"no image")
    words = [*RUN, *IMAGES, "model.norm=none,batch", "train.steps=2", "probes.steps=[1,2]", "jobs=2", "device=cpu"]
    commands = [[*words, "data.path=damaged"], words, words]
    done = subprocess.run([sys.executable, "-c", COMMANDS, json.dumps(commands)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    damaged, first, second = map(json.loads, done.stdout.splitlines())

    code, out, err, started = damaged
    assert (code, out, err.count("\n"), started) == (2, "", 1, False)
    assert err.startswith("data.path=damaged: damaged/test/cat/0.png cannot be read as an image")

    assert (first[0], first[2]) == (0, "") and first[1].splitlines()[-1] == "2 completed"
    runs = list(elsewhere.glob("outputs/quick/sigmoid_gradients/runs/*"))
    assert len(runs) == 2 and all(json.loads((run / "status.json").read_text())["attempt"] == 1 for run in runs)
    assert all((run / f"{name}.csv").stat().st_size > 100 for run in runs for name in ("metrics", "layers"))

    assert (second[0], second[2]) == (0, "") and "2 runs in" in second[1] and "0 to do" in second[1]
    note = json.loads((runs[0].parents[1] / "plan.json").read_text())
    assert sorted(note["runs"]) == sorted(run.name for run in runs)
    assert note["command"].startswith("bnrepro run experiment=sigmoid_gradients") and "++" not in note["command"]
