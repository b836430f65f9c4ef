"""Language models and data small enough to train with TRL in a second, made at run time."""

from __future__ import annotations

import contextlib

import datasets
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = [f"w{i}" for i in range(60)]
SPECIAL = ["<pad>", "<eos>", "<unk>", "<bos>"]
VOCABULARY = len(WORDS) + len(SPECIAL)
SETTINGS = {
    "report_to": "none",
    "disable_tqdm": True,
    "use_cpu": True,
    "bf16": False,
    "save_strategy": "no",
    "logging_strategy": "no",
    "seed": 11,
    "learning_rate": 1e-2,
    "num_train_epochs": 2,
    "per_device_train_batch_size": 4,
    "max_length": 32,
    "gradient_checkpointing": False,
}
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + ' <eos> ' }}"
    "{% endgeneration %}{% else %}{{ m['content'] + ' ' }}{% endif %}{% endfor %}"
)


def tokenizer() -> PreTrainedTokenizerFast:
    words = {word: i for i, word in enumerate(SPECIAL + WORDS)}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", bos_token="<bos>"
    )
    fast.chat_template = TEMPLATE
    return fast


def model(kind=LlamaForCausalLM, configuration=LlamaConfig, scale: float = 1.0, **changes):
    torch.manual_seed(7)
    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 3,
    }
    net = kind(configuration(**{**settings, **changes}))
    with torch.no_grad():
        head = net.get_output_embeddings()
        if head is not None:
            head.weight.mul_(scale * 20)
    return net


def words(index: int, count: int) -> str:
    return " ".join(WORDS[(index * 7 + j * (index % 5 + 1)) % len(WORDS)] for j in range(count))


def texts(n: int = 24) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"text": [words(i, 4 + i % 7) for i in range(n)]})


def completions(n: int = 24) -> datasets.Dataset:
    rows = {
        "prompt": [words(i, 3 + i % 4) for i in range(n)],
        "completion": [" " + words(i + 3, 2 + i % 3) for i in range(n)],
    }
    return datasets.Dataset.from_dict(rows)


def chats(n: int = 24) -> datasets.Dataset:
    def talk(i):
        return [
            {"role": "user", "content": words(i, 3 + i % 3)},
            {"role": "assistant", "content": words(i + 5, 2 + i % 4)},
        ]

    return datasets.Dataset.from_dict({"messages": [talk(i) for i in range(n)]})


def pairs(n: int = 16) -> datasets.Dataset:
    rows = {
        "prompt": [words(i, 3 + i % 3) for i in range(n)],
        "chosen": [" " + words(i + 3, 2 + i % 3) for i in range(n)],
        "rejected": [" " + words(i + 9, 2 + i % 4) for i in range(n)],
    }
    return datasets.Dataset.from_dict(rows)


class Counted:
    """How often the backbone and the head of a model ran, in training mode and outside of it."""

    def __init__(self, net: nn.Module) -> None:
        base = net.get_base_model() if hasattr(net, "get_base_model") else net
        self.backbone = {True: 0, False: 0}
        self.head = 0
        base.base_model.register_forward_hook(self._ran)
        base.get_output_embeddings().register_forward_hook(self._headed)

    def _ran(self, module, args, outputs) -> None:
        self.backbone[module.training] += 1

    def _headed(self, module, args, outputs) -> None:
        self.head += 1


class Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """The number of elements of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return made


@contextlib.contextmanager
def observed(pruner, seen: list):
    """Notes (indices, scores) of each observation."""
    driver, record = pruner.driver, pruner.driver.record

    def note(index, scores):
        seen.append((index.clone(), {name: values.clone() for name, values in scores.items()}))
        return record(index, scores)

    driver.record = note
    try:
        yield seen
    finally:
        del driver.record
