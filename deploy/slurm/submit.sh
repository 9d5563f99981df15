#!/usr/bin/env bash
# Submits an array of Sortie workers to Slurm, and prints the array's job id.
#
#     submit.sh 8 --gres=gpu:1 --time=12:00:00 -- --sweep NAME --data /datasets
#
# The first argument is how many workers, then come options of sbatch, and behind -- options of `sortie worker`.
set -euo pipefail

usage() {
    echo "$1; usage: submit.sh WORKERS [SBATCH OPTION]... [-- WORKER OPTION...]" >&2
    exit 2
}

workers=${1-}
case $workers in
'' | *[!0-9]* | 0*) usage "'$workers' is no number of workers" ;;
esac
shift
sbatch_options=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    # sbatch would take the first word that is no option for the script to run.
    case $1 in
    -*) sbatch_options+=("$1") ;;
    *) usage "'$1' is no option of sbatch: write --option=value, and -- before the worker's options" ;;
    esac
    shift
done
if [ $# -gt 0 ]; then
    shift
fi

# The tasks run the program that is found here and now, and a missing one is noticed before the array waits in the queue.
if ! SORTIE_PROGRAM=$(command -v "${SORTIE_PROGRAM:-sortie}"); then
    echo "sortie is not in PATH; name it by SORTIE_PROGRAM, at a path that the nodes can read" >&2
    exit 1
fi
SORTIE_PROGRAM=$(realpath "$SORTIE_PROGRAM")
export SORTIE_PROGRAM

here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
exec sbatch --parsable --array="1-$workers" ${sbatch_options[@]+"${sbatch_options[@]}"} "$here/sortie-workers.sbatch" "$@"
