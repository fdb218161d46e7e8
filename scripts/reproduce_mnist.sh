#!/usr/bin/env bash
# The runs behind docs/REPRODUCTIONS.md. Finished runs are not repeated, so this can be stopped and started.
set -euo pipefail
out="out=${OUT:-outputs/reproductions} logger=csv"
seeds="seed=${SEEDS:-0}"
dgm train -m experiment=mnist_autoencoder $out study=bottleneck model.latent=2,5,10,30 $seeds
dgm train -m experiment=mnist_vae $out study=latent model.latent=2,5,10,20,50 $seeds
dgm train -m experiment=mnist_vae $out study=latent20 model.latent=20 scheduler=cosine optimizer.lr=2e-3 $seeds
dgm train -m experiment=mnist_burda $out study=burda $seeds
dgm train -m experiment=mnist_burda $out study=burda scheduler=cosine optimizer.lr=2e-3 optimizer.eps=1e-8 $seeds
dgm train -m experiment=mnist_burda $out study=burda30 trainer.max_epochs=30 $seeds
dgm train -m experiment=mnist_burda $out study=burda30 trainer.max_epochs=30 model=iwae model.samples=5 $seeds
dgm train -m experiment=mnist_vae $out study=completeness model=beta_vae model.latent=8 loss.beta=0,1 $seeds
dgm train -m experiment=mnist_vae $out study=beta model=beta_vae loss.beta=0.1,0.5,1,2,4,8,16 $seeds
