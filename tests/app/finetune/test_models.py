"""Models from elsewhere: nothing of them is executed unasked, and what does not belong together is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fastprune.app.finetune.encoder import load_encoder
from fastprune.app.finetune.trust import Trust
from fastprune.errors import UsageError

transformers = pytest.importorskip("transformers")


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_pickles_are_loaded_only_if_allowed(model: Path) -> None:
    torch.save(weights_of(model), model / "pytorch_model.bin")
    load_encoder(str(model))  # beside safetensors it is not looked at
    (model / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"weights in pytorch_model.bin, a pickle.*--allow-pickle"):
        load_encoder(str(model))
    encoder, _, _ = load_encoder(str(model), Trust(pickle=True))
    assert encoder.config.hidden_size == 32


class Bomb:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("exploded"),)


def test_an_allowed_pickle_still_executes_nothing(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weights": Bomb()}, model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="--model"):
        load_encoder(str(model), Trust(pickle=True))
    assert not (tmp_path / "exploded").exists()


def test_python_files_are_run_only_if_trusted(model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    config = json.loads((model / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}}
    (model / "config.json").write_text(json.dumps(config))
    (model / "mine.py").write_text("raise SystemExit('executed')\n")
    with pytest.raises(UsageError, match=r"brings Python code of its own.*--trust-remote-code"):
        load_encoder(str(model))


def test_a_folder_without_tokenizer_is_refused(model: Path) -> None:
    """What `Trainer.save_model` leaves."""
    for path in model.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            path.unlink()
    with pytest.raises(UsageError, match=r"has no tokenizer, as Trainer.save_model leaves it.*save_pretrained"):
        load_encoder(str(model))


@pytest.mark.parametrize("rows", [5, 4000])
def test_a_tokenizer_of_another_model_is_refused(model: Path, rows: int) -> None:
    config = json.loads((model / "config.json").read_text()) | {"vocab_size": rows}
    (model / "config.json").write_text(json.dumps(config))
    transformers.BertModel(transformers.BertConfig(**config)).save_pretrained(model)
    with pytest.raises(UsageError, match=rf"its tokenizer has \d+ words and its embeddings {rows} rows"):
        load_encoder(str(model))


def test_embeddings_may_have_some_rows_to_spare(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    config["vocab_size"] += 64
    transformers.BertModel(transformers.BertConfig(**config)).save_pretrained(model)
    load_encoder(str(model))


def test_weights_that_do_not_match_are_refused(model: Path) -> None:
    weights = weights_of(model)
    lost = {name: tensor for name, tensor in weights.items() if "layer.1.attention" not in name}
    save_file(lost, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"weights that its config.json asks for are not in its files \(encoder.layer"):
        load_encoder(str(model))
    other = {name: tensor[..., :16].contiguous() if tensor.ndim == 2 else tensor for name, tensor in weights.items()}
    save_file(other, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match="--model"):
        load_encoder(str(model))


def test_a_checkpoint_without_a_pooler_is_a_model(model: Path) -> None:
    weights = {name: tensor for name, tensor in weights_of(model).items() if "pooler" not in name}
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    load_encoder(str(model))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"{"),
        ("config.json", b'{"model_type": "no such thing"}'),
        ("config.json", b"[1, 2]"),
        ("config.json", b"\xff\xfe\x00"),
        ("config.json", b'{"model_type": "bert", "hidden_size": "many"}'),
        ("config.json", b"[" * 100_000),
        ("tokenizer.json", b"{}"),
        ("tokenizer.json", b"\x00\x01"),
        ("tokenizer_config.json", b"null"),
        ("model.safetensors", b""),
        ("model.safetensors", b"\xff" * 64),
    ],
)
def test_a_damaged_model_is_refused_in_one_sentence(model: Path, name: str, content: bytes) -> None:
    (model / name).write_bytes(content)
    with pytest.raises(UsageError, match=r"^--model [^\n]*$"):
        load_encoder(str(model))
