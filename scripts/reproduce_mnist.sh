#!/usr/bin/env bash
# The runs behind docs/REPRODUCTIONS.md. Finished runs are not repeated, so this can be stopped and started.
set -euo pipefail
out="out=${OUT:-outputs/reproductions} logger=csv"
seeds="seed=${SEEDS:-0,1,2}"
quick="metric=[likelihood] metric.likelihood.samples=2"
dgm train -m experiment=mnist_autoencoder $out study=bottleneck model.latent=2,5,10,30 $seeds
dgm train -m experiment=mnist_vae $out study=latent model.latent=2,5,10,20,50 $seeds
dgm train -m experiment=mnist_vae $out study=beta model=beta_vae loss.beta=0.1,0.5,1,2,4,8,16 $quick $seeds
dgm train -m experiment=mnist_vae $out study=completeness model=beta_vae model.latent=8 loss.beta=0,1 $quick $seeds
dgm train -m experiment=mnist_burda $out study=burda $seeds
dgm train -m experiment=mnist_burda $out study=burda30 trainer.max_epochs=30 metric=[likelihood] $seeds
dgm train -m experiment=mnist_burda $out study=burda30 trainer.max_epochs=30 metric=[likelihood] model=iwae model.samples=5 $seeds
dgm train -m experiment=mnist_autoregressive $out study=ladder model=fvsbn optimizer.lr=1e-3 trainer.max_epochs=50 $seeds
dgm train -m experiment=mnist_autoregressive $out study=ladder model=made optimizer.lr=1e-3 trainer.max_epochs=50 $seeds
dgm train -m experiment=mnist_autoregressive $out study=ladder model=pixelcnn model.network.blocks=6 $seeds
for run in "${OUT:-outputs/reproductions}"/{latent/model.latent=20,burda/}*seed=0*; do
  dgm evaluate run="$run" metric=[likelihood] metric.likelihood.samples=5000
done
