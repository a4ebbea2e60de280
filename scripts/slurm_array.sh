#!/usr/bin/env bash
# A job array over frozen runs, to copy and change where Hydra is not wanted on the cluster. Freeze the runs first:
#   bnrepro run experiment=vgg_curves scale=paper out=/shared/outputs launch=false
#   sbatch --array=0-29 scripts/slurm_array.sh /shared/outputs/paper/vgg_curves
# Submitting it again continues what was interrupted and skips what has a result.
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=8G
#SBATCH --time=12:00:00
set -euo pipefail
runs=("$1"/runs/*/)
exec python -m bnrepro.train "${runs[$SLURM_ARRAY_TASK_ID]}"
