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
pixels="experiment=mnist_autoregressive $out study=ladder"
dgm train -m $pixels model=pixelcnn model.network.blocks=6 $seeds
dgm train $pixels model.network.blocks=6 data.batch_size=32 trainer.max_epochs=12 optimizer.lr=6e-3 scheduler=cosine
dgm train $pixels model=gated_pixelcnn model.network.width=11
dgm train $pixels model=pixelrnn model.network.layers=2 model.network.width=15
ring="trainer.max_steps=2000 trainer.max_epochs=100 model.critic_steps=1,2,5 seed=0,1,2,3,4,5,6,7,8,9"
for target in ring grid; do
  dgm train -m experiment=${target}_gan $out study=$target $ring loss=minimax,non_saturating,least_squares,hinge
  dgm train -m experiment=${target}_gan $out study=$target $ring loss=wasserstein model/penalty=gradient
done
zoo="$out study=zoo trainer.max_epochs=2 $seeds"
dgm train -m experiment=loss_zoo $zoo loss=minimax,non_saturating,least_squares,hinge
dgm train -m experiment=loss_zoo $zoo loss=wasserstein model.clip=0.01
dgm train -m experiment=loss_zoo $zoo loss=wasserstein model/penalty=gradient
dgm train -m experiment=mnist_vae $out study=gan data.val=5000 seed=0
dgm train -m experiment=mnist_dcgan $out study=gan trainer.max_epochs=16 trainer.check_val_every_n_epoch=4 scheduler=cosine $seeds
dgm train -m experiment=mnist_dcgan $out study=gan trainer.max_epochs=4 model.conditional=true metric=[fid,label_agreement] seed=0
for run in "${OUT:-outputs/reproductions}"/gan/*; do
  [ -d "$run" ] && dgm evaluate run="$run" metric=[fid] metric.fid.reference=test
done
dgm train experiment=sprites_dcgan $out study=sprites
dgm train -m experiment=sprites_vae $out study=sprites metric=[likelihood] $seeds
dgm train -m experiment=line_gan $out study=line $seeds
dgm train experiment=frozen_gan $out study=frozen
dgm train experiment=moons_to_ring_gan $out study=moons
for run in "${OUT:-outputs/reproductions}"/{latent/model.latent=20,burda/}*seed=0*; do
  dgm evaluate run="$run" metric=[likelihood] metric.likelihood.samples=5000
done
