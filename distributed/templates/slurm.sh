#!/bin/bash
# A run of lie_sim on nodes of a Slurm cluster. What is in capitals is yours to change.
#
#   sbatch slurm.sh
#
# A job whose node fails, or whose time is up, is queued again: it goes on from what is in the store, which must be on a
# disk that all nodes see. After any other failure submit it again yourself.
#SBATCH --job-name=lie-sim
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=B:USR1@300
#SBATCH --open-mode=append
#SBATCH --output=lie-sim-%j.log

set -euo pipefail

source "$HOME/VENV/bin/activate"
STORE="/SHARED/runs/many"

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address="$head:6379"
export OMP_NUM_THREADS=1 RAY_USAGE_STATS_ENABLED=0 RAY_worker_niceness=0

# Five minutes before the time is up Slurm sends the signal; the job goes back into the queue.
trap 'scontrol requeue "$SLURM_JOB_ID"' USR1

# Ray starts on every node, the command runs on the first, and Ray stops again with it.
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" \
    ray symmetric-run --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="$SLURM_GPUS_ON_NODE" -- \
    lie-sim simulate MODEL --structures STRUCTURES.xyz --num-systems 100000 --temperature 300 \
    --steps 1000000 --save-every 1000 --chunk 1024 --segment 30s \
    --out "$STORE" --address auto --no-progress &
wait "$!"
