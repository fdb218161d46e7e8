#!/usr/bin/env bash
# The runs behind docs/REPRODUCTIONS.md. Finished runs are not repeated, so this can be stopped and started.
set -euo pipefail
common="out=${OUT:-outputs/reproductions} logger=csv"
dgm train -m experiment=mnist_autoencoder $common study=bottleneck model.latent=2,5,10,30 seed=0
dgm train -m experiment=mnist_vae $common study=latent model.latent=2,5,10,20,50 seed=0
dgm train -m experiment=mnist_burda $common study=burda seed=0
dgm train -m experiment=mnist_burda $common study=burda model=iwae model.samples=5 seed=0
dgm train -m experiment=mnist_vae $common study=beta model=beta_vae loss.beta=0.1,0.5,1,2,4,8,16 seed=0
dgm train -m experiment=mnist_vae $common study=completeness model=beta_vae model.latent=8 loss.beta=0,1 seed=0,1,2
dgm train -m experiment=mnist_autoencoder $common study=bottleneck model.latent=2,5,10,30 seed=1,2
dgm train -m experiment=mnist_vae $common study=latent model.latent=2,5,10,20,50 seed=1,2
dgm train -m experiment=mnist_burda $common study=burda seed=1,2
dgm train -m experiment=mnist_burda $common study=burda model=iwae model.samples=5 seed=1,2
