"""Every yaml composes, builds, trains a step and samples; every bad value gets one sentence."""

import inspect
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from dgm.cli.compose import compose
from dgm.cli.job import train as signature
from dgm.cli.main import run as dgm
from dgm.configs import ConfigError, build, check, folder, resolve
from dgm.images import inputs

GROUPS = (
    "model",
    "loss",
    "likelihood",
    "data",
    "trainer",
    "optimizer",
    "scheduler",
    "callbacks",
    "logger",
    "metric",
)
CHOICES = [(g, p.stem) for g in GROUPS for p in sorted((folder() / g).glob("*.yaml"))]
SMALL = {
    "mlp": ["model.encoder.hidden=[8]", "model.decoder.hidden=[8]"],
    "conv_": ["model.encoder.width=4", "model.decoder.width=4"],
    "pixelvae": [
        "model.network.width=4",
        "model.network.blocks=1",
        "model.encoder.hidden=[8]",
        "model.decoder.hidden=[8]",
    ],
    "made": ["model.network.hidden=[32]"],
    "fvsbn": [],
    "pixelrnn": ["model.network.width=4", "model.network.layers=1"],
    "dcgan": ["model.generator.width=4", "model.critic.width=4"],
    "lsgan": ["model.generator.width=4", "model.critic.width=4"],
    "wgan": ["model.generator.width=4", "model.critic.width=4"],
    "sngan": ["model.generator.width=4", "model.critic.width=4"],
    "gan": ["model.generator.hidden=[8]", "model.critic.hidden=[8]"],
    "wavenet": ["data.shape=[1,1,64]", "model.network.layers=3", "model.network.cycles=1"],
    "pixelcnnpp": ["model.network.width=4", "model.network.blocks=1", "model.network.levels=2"],
    "pixelcnn": ["model.network.width=4", "model.network.blocks=1"],
}
GAMES = ("minimax", "non_saturating", "least_squares", "wasserstein", "hinge")
PARTNER = {
    "loss": {"squared_error": "autoencoder", "absolute_error": "autoencoder", "negative_log_likelihood": "made"}
    | dict.fromkeys(GAMES, "gan"),
    "likelihood": {"categorical": "made", "logistic_mixture": "made"},
}
NEEDS = {
    "hf": ["data.source.path=nowhere"],
    "density": ["model.encoder.hidden=[8]", "likelihood=gaussian"],
    "wavenet": ["data.shape=[1,1,64]"],
    "fsdd": ["model=wavenet", "likelihood=categorical"],
}


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes_and_meets_its_signatures(group, choice):
    value = f"[{choice}]" if group in ("callbacks", "metric") else choice
    model = [f"model={PARTNER.get(group, {}).get(choice, 'vae')}"] if group != "model" else []
    config = compose(
        "train", [*model, f"{group}={value}", *(NEEDS.get(choice, []) if group in ("data", "model") else [])]
    )
    check(signature, config)
    with torch.device("meta"):
        assert isinstance(build(config["model"]), pl.LightningModule)
    assert isinstance(build(config["data"]), pl.LightningDataModule)
    assert all(isinstance(callback, pl.Callback) for callback in build(config["callbacks"]).values())
    assert all(callable(part) for part in [build(config["trainer"]), *build(config["metric"]).values()])
    assert all(callable(make) for make in build(config["logger"]).values())


def test_every_experiment_composes():
    for path in sorted((folder() / "experiment").glob("*.yaml")):
        config = compose("train", [f"experiment={path.stem}"])
        check(signature, config)
        with torch.device("meta"):
            assert isinstance(build(config["model"]), pl.LightningModule)


MODELS = [p.stem for p in sorted((folder() / "model").glob("*.yaml"))]


@pytest.mark.parametrize("name", MODELS)
def test_every_model_learns_a_fixed_batch_and_does_what_it_says(name):
    kind = next((kind for kind in SMALL if kind in name), "mlp")
    latent = ["model.latent=4"] if kind in ("mlp", "conv_", "pixelvae") else []
    config = compose("train", [f"model={name}", "optimizer.lr=0.01", *latent, *SMALL[kind]])
    torch.manual_seed(0)
    model, data = build(config["model"]), build(compose("train", [])["data"])
    x = inputs(data.set("test").fetch(torch.arange(32))).view(32, *config["data"]["shape"])
    optimizer = model.configure_optimizers()
    losses = []
    for _ in range(60 if hasattr(model, "objective") else 0):  # games have tests of their own
        loss = model.objective(x)["loss"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert not losses or losses[-1] < 0.9 * losses[0]
    assert not latent or model.decode(model.encode(x)).shape == x.shape
    if hasattr(model, "sample"):
        images = model.sample(3, generator=torch.Generator().manual_seed(0))
        assert images.shape == (3, *x.shape[1:])
        assert images.min() >= 0 and images.max() <= 1
        assert torch.equal(images, model.sample(3, generator=torch.Generator().manual_seed(0)))


BAD = [
    ("loss.bta=4", ["loss.bta=4", "Did you mean loss.beta"]),
    ("+loss.bta=4", ["loss.bta=4", "beta"]),
    ("loss.beta=banana", ["loss.beta=banana", "number"]),
    ("loss.beta=-1", ["loss.beta=-1", "greater than or equal to 0"]),
    ("model.latent=0", ["model.latent=0", "greater than or equal to 1"]),
    ("model.latent=2.5", ["model.latent=2.5", "integer"]),
    ("seed=-1", ["seed=-1", "greater than or equal to 0"]),
    ("data=digist", ["data=digist", "digits"]),
    ("modl=vae", ["modl"]),
    ("metric=[likelyhood]", ["metric=likelyhood", "likelihood"]),
    ("data.binarise=sometimes", ["data.binarise=sometimes", "dynamic"]),
    ("trainer.max_epochs=many", ["trainer.max_epochs=many", "integer"]),
    ("optimizer.lr=fast", ["optimizer.lr=fast"]),
    ("loss=squared_error", ["squared_error", "cannot meet VAE"]),
    ("model._target_=os.system", ["os.system", "trusted"]),
    ("model.encoder._target_=dgm.nn.conv.group_nrm", ["dgm.nn.conv.group_nrm", "no such thing"]),
    ("loss.beta=1,2", ["loss.beta=1,2", "-m", "list"]),
    ("optimizer=[adam", ["optimizer=[adam", "quote"]),
]


@pytest.mark.parametrize("path", ["a=b,c", "it's", "a b", "$x", "'x'"])
def test_a_folder_may_have_any_name(path):
    assert compose("sample", [f"run={path}"])["run"] == path.strip("'")
    assert compose("sample", ["run=x", "out=null"])["out"] is None


@pytest.mark.parametrize("words", ["train seed=1", "figure figure=samples", "configs model"])
def test_a_missing_folder_of_configs_is_one_sentence(words, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("DGM_CONFIG_DIR", str(tmp_path / "none"))
    assert dgm(words.split()) == 1
    said = capsys.readouterr().err
    assert f"--config-dir={tmp_path / 'none'}: there is no such folder; give" in said and said.count("\n") == 1


OTHERS = [
    ("train model=pixelcnn model.network.block=3", ["block=3", "Did you mean model.network.blocks"]),
    ("train los=[a", ["los=[a: unknown key", "Did you mean loss"]),
    ("train modle=vae", ["modle=vae", "Did you mean model?"]),
    ("train model=vae model.conditional=true", ["unknown key. There are: decoder, encoder, latent"]),
    ("train =vae", ["=vae: cannot be read as KEY=VALUE"]),
    ("train model=vae model/penalty=r1", ["model/penalty=r1: nothing that is chosen has this part"]),
    ("train model=vae likelihood=categorical", ["likelihood=Categorical: gives no mean", "bernoulli, gaussian"]),
    ("train model=pixelcnn likelihood=gaussian", ["likelihood=Gaussian: gives no conditional", "categorical"]),
    ("train optimizer.lr=-1", ["optimizer: Invalid learning rate: -1"]),
    ("train trainer.accelerator=foo", ["trainer: ", "accelerator='foo'"]),
    ("train trainer.max_epochs=-3", ["trainer: `max_epochs`", "-3"]),
    ("train study=../x", ["study=../x", "give a name"]),
    ("train out=/dev/null", ["/dev/null", "not a directory"]),
    ("train data=density metric=[fid]", ["Error: metric=[fid]: density has points"]),
    ("train -m seed=0,1 launcher=parallel hydra.launcher.jobs=-3", ["hydra.launcher.jobs=-3"]),
    ("train -m sweep=search study=s hydra.sweeper.trials=-2 loss.beta=interval(1,2)", ["hydra.sweeper.trials=-2"]),
    ("train -m sweep=search loss.beta=interval(1,2) model=beta_vae", ["Error: study=null"]),
    ("train -m sweep=search study=s loss.beta=interval(2,1) model=beta_vae", ["loss.beta=interval(2,1): no interval"]),
    ("train loss.beta=[1", ["loss.beta=[1", "KEY=VALUE", "quote brackets"]),
    ("train model=[a", ["model=[a", "KEY=VALUE"]),
    ("figure figure=samples folder=/a,b=c", ["folder=/a,b=c: unknown key", "figure.columns", "run"]),
    ("figure figure=samples figure.colums=3", ["Did you mean figure.columns"]),
    ("figure run=x", ["figure=", "nothing is chosen", "samples"]),
    ("figure run=x foo=[a", ["figure=", "nothing is chosen", "samples"]),
    ("sample rn=x", ["rn=x", "Did you mean run"]),
    ("sample n=4", ["run: no value", "run=VALUE"]),
    ("evaluate run=x metrc=[fid]", ["metrc=[fid]: unknown key", "metric"]),
]


@pytest.mark.parametrize("command", ["train", "sample", "evaluate"])
def test_help_shows_what_a_command_takes(command, capsys):
    assert dgm([command, "--help"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"dgm {command} KEY=VALUE") and ("seed: 0" in said or "again: false" in said)


@pytest.mark.parametrize("words", ["train --trust", "train --trust seed=1", "train --config-dir"])
def test_a_flag_without_its_name_is_no_flag(words, capsys):
    assert dgm(words.split()) == 2
    assert "what?" in capsys.readouterr().err


def test_a_loss_of_ones_own_needs_no_annotations(tmp_path, monkeypatch):
    (tmp_path / "plainly.py").write_text("def mine(draw, weight=2.0):\n    ...\n\n\ndef other(a, b):\n    ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("DGM_TRUST", "plainly")
    config = compose("train", ["model=vae"])
    config["model"]["loss"] = {"_target_": "plainly.mine", "_partial_": True, "weight": 3.0}
    check(signature, config)
    config["model"]["loss"] = {"_target_": "plainly.other", "_partial_": True}
    with pytest.raises(ConfigError, match="cannot meet VAE"):
        check(signature, config)


@pytest.mark.parametrize(("words", "parts"), OTHERS, ids=[o[0] for o in OTHERS])
def test_every_command_names_what_it_takes(words, parts, capsys):
    assert dgm(words.split()) == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and all(part in said for part in parts)


@pytest.mark.parametrize(("word", "parts"), BAD, ids=[b[0] for b in BAD])
def test_bad_input_is_one_sentence_with_key_value_and_remedy(word, parts, capsys, tmp_path):
    assert dgm(["train", "logger=csv", word]) == 1
    _out, err = capsys.readouterr()
    assert err.startswith("Error: ") and err.count("\n") == 1 and "Traceback" not in err
    for part in parts:
        assert part in err
    assert not (tmp_path / "outputs").exists()


def test_one_bad_point_stops_a_sweep_before_its_first_job(capsys, tmp_path):
    assert dgm(["train", "-m", "logger=csv", "metric=[]", "loss.beta=1,2,-3"]) == 1
    assert "loss.beta=-3" in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()


def test_an_image_too_small_for_a_network_is_refused_before_training(capsys, tmp_path):
    assert dgm(["train", "model=conv_vae", "data.shape=[1,6,6]", "logger=csv"]) == 1
    assert "8 x 8" in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()


def test_only_what_is_defined_in_a_trusted_package_resolves():
    for target in (
        "os.system",
        "builtins.eval",
        "dgm.runs.write",
        "dgm.data.vision.Path",
        "torch.load",
        "torch.hub.load",
    ):
        with pytest.raises(ConfigError, match="trusted"):
            resolve(target, "x")
    assert inspect.isclass(resolve("dgm.modules.vae.VAE", "x"))


def test_a_package_of_the_users_own_joins_by_name(tmp_path, capsys, monkeypatch):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/__init__.py").write_text(
        "from dgm.losses.variational import Draw, elbo\n"
        "def halved(draw: Draw, *, factor: float = 0.5) -> dict:\n"
        "    terms = elbo(draw)\n    return terms | {'loss': factor * terms['loss']}\n"
    )
    (tmp_path / "conf/loss").mkdir(parents=True)
    (tmp_path / "conf/loss/halved.yaml").write_text("_target_: theirs.halved\n_partial_: true\nfactor: 0.25\n")
    words = [
        "train",
        "loss=halved",
        "logger=csv",
        "metric=[]",
        "trainer.max_epochs=1",
        "--config-dir",
        "conf",
    ]
    assert dgm(words) == 1
    assert "theirs.halved" in capsys.readouterr().err
    assert dgm([*words, "loss.factr=1"]) == 1
    assert "loss.factr=1: unknown key. Did you mean loss.factor" in capsys.readouterr().err
    monkeypatch.delenv("DGM_CONFIG_DIR", raising=False)
    assert dgm([*words, "--trust", "theirs"]) == 0
    monkeypatch.delenv("DGM_TRUST", raising=False)
    monkeypatch.delenv("DGM_CONFIG_DIR", raising=False)
    assert list(Path("outputs").glob("loss=halved*"))


@pytest.mark.parametrize("name", MODELS)
def test_the_default_metrics_of_a_model_are_such_that_it_can_have(name):
    config = compose("train", [f"model={name}", *NEEDS.get(name, [])])
    with torch.device("meta"):
        model = build(config["model"])
    metrics, data = build(config["metric"]), build(config["data"])
    assert metrics and {name: refusal(metric, model, data) for name, metric in metrics.items()} == dict.fromkeys(
        metrics
    )


def refusal(metric, model, data):
    try:
        metric.refuse(model, data)
    except (TypeError, ValueError) as error:
        return str(error)
    return None
