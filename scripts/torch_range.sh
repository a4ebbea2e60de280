#!/usr/bin/env bash
# Whether an install leaves the torch that is there, and works beside it: scripts/torch_range.sh 2.4.0 2.6.0 2.15.0
# What is committed is installed from a clone, into a fresh environment for each release (6 GB where pip takes CUDA builds),
# all in a folder of its own that is removed afterwards.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH='' OMP_NUM_THREADS=1

attach() {  # what a loop of one's own does, and that it is installed rather than imported from the checkout
    "$1/bin/python" - <<'PYTHON'
import torch, bnrepro
from torch import nn
assert "site-packages" in bnrepro.__file__, bnrepro.__file__
torch.manual_seed(0)
model = nn.Sequential(*[part for _ in range(6) for part in (nn.Linear(20, 20), nn.Sigmoid())], nn.Linear(20, 3))
watch = bnrepro.attach(model, "watched", every=1, statistics="full", replace=True)
for _ in range(5):
    model.zero_grad()
    nn.functional.cross_entropy(model(torch.randn(16, 20)), torch.arange(16) % 3).backward()
    watch.after_backward()
assert len(watch.frame()) and not watch.notes, watch.notes
print(f"torch {torch.__version__}: {watch.words()[0]}")
PYTHON
}

for release in "$@"; do
    there=$(mktemp -d)
    trap 'rm -rf "$there"' EXIT
    python3 -m venv "$there/env"
    pip=("$there/env/bin/python" -m pip install --quiet)
    cd "$there"  # an empty directory
    git clone --quiet "$top" clone
    "${pip[@]}" "torch==$release" numpy pandas scipy
    before=$(env/bin/python -c 'import torch; print(torch.__version__)')
    "${pip[@]}" --no-deps ./clone
    echo "--no-deps beside torch, numpy, pandas and scipy:"
    attach env
    "${pip[@]}" ./clone
    after=$(env/bin/python -c 'import torch; print(torch.__version__)')
    echo "the default install: torch $before before, $after after"
    [ "$before" = "$after" ]
    attach env
    env/bin/bnrepro run sigmoid_gradients scale=quick seed=0,1 model.width=50 train.steps=10 probes.steps=[10] | tail -1
    env/bin/bnrepro check sigmoid_gradients
    rm -rf "$there"
done
