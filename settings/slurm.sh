#!/bin/bash
# Pretraining on several machines of a SLURM cluster, one process for each GPU.
#
#   sbatch settings/slurm.sh SETTINGS.toml RUN
#
# RUN, which is run.out of the settings, has to lie in a folder that all machines share. The job asks to be warned before
# its time is over, and then queues itself again: the run goes on from its last checkpoint, to the same result.

#SBATCH --job-name=ecgscan
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append

settings=$1
run=$2
trap 'scontrol requeue "$SLURM_JOB_ID"' USR1

# A folder that holds settings has been started before.
if [ -e "$run/settings.toml" ]; then arguments=(--resume "$run"); else arguments=("$settings"); fi

# One launcher a machine; the first machine is where they meet.
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun torchrun \
  --nnodes "$SLURM_NNODES" --nproc-per-node "$SLURM_GPUS_ON_NODE" \
  --rdzv-backend c10d --rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint "$first:29500" \
  -m ecgscan_lite.cli pretrain "${arguments[@]}" &
wait $!  # a shell that waits for a background job hears the signal at once
