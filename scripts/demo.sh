#!/usr/bin/env bash
# The main job from end to end, each step a public command: render a posed data set, train BallGAN on it, sample,
# export a shape, score the snapshot. Usage: [DEMO_MINUTES=7] scripts/demo.sh PYTHON FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1
folder=$2

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
step() { printf '\n$ %s\n' "${*//$python/python}"; "$@"; }

if "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    resolution=64 minutes=${DEMO_MINUTES:-10} size=(--kimg=2000 --batch=32 --gpus=1 --tick=20 --snap=10 --blur_fade_kimg=20)
    scored=kid5k_full_lite,fid5k_full_lite
else
    # A fraction of the published size, widths and rays, and four times the rates: what two CPU cores train in minutes.
    resolution=32 minutes=${DEMO_MINUTES:-7} size=(--device=cpu --kimg=1000 --batch=8 --gpus=2 --tick=1 --snap=100
        --glr=0.01 --dlr=0.008 --cbase=1024 --cmax=64 --neural_rendering_resolution_initial=16
        --blur_fade_kimg=4 --set schedule.blur_sigma=5
        --hidden_size=32 --n_blocks=3 --z_bg_dim=64 --w_bg_dim=64 --bg_mapping=2
        --set generator.z_dim=64 --set generator.w_dim=64
        --set generator.scene.backbone.resolution=32 --set generator.scene.channels=12
        --set generator.scene.features=16 --set generator.scene.decoder.hidden=32
        --set generator.renderer.depth_resolution=10 --set generator.renderer.depth_resolution_importance=10
        --set generator.upsampler.channels=16,16)
    scored=kid500_full_lite,fid500_full_lite
fi

say "1. A posed data set: toy animals in front of random surroundings"
[ -e "$folder/toys.zip" ] || step "$python" -m dataset_preprocessing.synthetic --dest="$folder/toys.zip" --resolution=$resolution --count=2000

say "2. BallGAN learns it for $minutes minutes; an interrupt ends a run cleanly, with a snapshot"
step env OMP_NUM_THREADS=1 timeout --signal=INT "${minutes}m" "$python" train.py --outdir="$folder/runs" --model=ballgan --cfg=ffhq \
    --data="$folder/toys.zip" --gamma=0.5 --bg_pe=30 --bg_transmittance_reg=0.2 \
    --bg_transmittance_reg_start=4000 --set generator.view.pivot=0,0,0 --metrics=none "${size[@]}" || [ $? = 124 ]
run=$(ls -d "$folder"/runs/*/ | tail -n 1)
network=$(ls "$run"network-snapshot-*.pkl | tail -n 1)

say "3. Pictures of seeds: composed, foreground with alpha, surroundings, depth"
step "$python" gen_samples.py --network="$network" --seeds=0-7 --trunc=0.8 --outdir="$folder/samples" \
    --shapes=.glb --shape-res=128 --sheet || say "Some seeds have no surface yet: a longer training would help"

say "4. A volume for ChimeraX, and a mesh"
step "$python" gen_samples.py --network="$network" --seeds=0 --trunc=0.8 --outdir="$folder/shapes" \
    --shapes=.mrc,.ply --shape-res=128 || say "The volume is there; a mesh needs a longer training"

say "5. A score (with the small packaged feature network: not the published FID or KID)"
step "$python" calc_metrics.py --network="$network" --metrics="$scored"

say "Done"
cat <<END
  contact sheet   $folder/samples/sheet.png
  pictures        $folder/samples/
  shapes          $folder/shapes/
  snapshot        $network
  training        $run (log.txt, stats.jsonl, fakes*.png, TensorBoard events)

  see it move     $python visualizer.py --network=$network
  make a film     $python gen_videos.py --network=$network --seeds=0-3 --outdir=$folder/films
END
