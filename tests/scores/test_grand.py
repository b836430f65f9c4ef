"""GraNd in closed form and by torch.func against autograd in double precision, one example at a time."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fastprune
from fastprune.scores import LastLayers

EPSILON = 2.0**-23


def linear_problem(shape, width, classes, dtype=torch.float32, seed=0, confident=False):
    """Features (*shape, width), a weight, a bias, and labels of shape ``shape``."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(*shape, width, generator=generator).to(dtype)
    weight = torch.randn(classes, width, generator=generator).mul(4.0 if confident else 0.5).to(dtype)
    bias = torch.randn(classes, generator=generator).to(dtype)
    return features, weight, bias, torch.randint(classes, shape, generator=generator)


def autograd_norms(features, weight, bias, labels, shift=0, ignore_index=-100):
    """The norm of the gradient of each example's summed loss, in float64 throughout."""
    norms = []
    for h, y in zip(features.double(), labels, strict=True):
        w = weight.double().requires_grad_()
        b = None if bias is None else bias.double().requires_grad_()
        z = F.linear(h, w, b)
        z, y = (z, y) if z.ndim == 2 else (z.unsqueeze(0), y.unsqueeze(0))
        if shift:
            z, y = z[:-shift], y[shift:]
        loss = F.cross_entropy(z, y, ignore_index=ignore_index, reduction="sum")
        gradients = torch.autograd.grad(loss, [w] if b is None else [w, b])
        norms.append(sum(g.square().sum() for g in gradients).sqrt())
    return torch.stack(norms)


def rounding(features, labels, classes, bias):
    """What fp32 may be off by: T(C + d) additions of tokens' norms, whose errors p − y are at most √2 in size."""
    wide = features.double().square().sum(-1) + float(bias)
    tokens = wide.sqrt().reshape(len(labels), -1).sum(1) * 2**0.5
    return 4 * EPSILON * (classes + features.shape[-1]) ** 0.5 * tokens


def check(found, features, weight, bias, labels, scale=1.0, **options):
    expected = autograd_norms(features, weight, bias, labels, **options)
    assert found.dtype == torch.float32 and not found.requires_grad
    tolerance = rounding(features, labels, len(weight), bias is not None) * scale
    assert ((found.double() - expected).abs() <= tolerance).all(), (found.double() - expected).abs() / tolerance


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("width, classes", [(8, 3), (3, 40), (1, 2)])
def test_rows(with_bias, width, classes):
    features, weight, bias, labels = linear_problem((17,), width, classes)
    labels[4] = -100
    bias = bias if with_bias else None
    logits = F.linear(features.double(), weight.double(), None if bias is None else bias.double())
    found = fastprune.grand(logits, labels, features, bias=with_bias)
    check(found, features, weight, bias, labels)
    assert found[4] == 0.0


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize(
    "tokens, width, classes, gram",
    [(5, 32, 40, True), (40, 6, 7, False), (1, 3, 3, True), (14, 24, 24, False)],
)
def test_tokens_by_both_products(with_bias, shift, tokens, width, classes, gram):
    d = width + with_bias
    assert (tokens * (classes + d) < classes * d) == gram, "the case takes the branch it is for"
    features, weight, bias, labels = linear_problem((6, tokens), width, classes)
    labels[torch.rand(6, tokens, generator=torch.Generator().manual_seed(1)) < 0.3] = -100
    labels[0] = -100
    bias = bias if with_bias else None
    logits = F.linear(features, weight, bias)
    found = fastprune.grand(logits, labels, features, bias=with_bias, shift=shift)
    # The logits were rounded, too: e^δ of at most d products' rounding.
    check(found, features, weight, bias, labels, scale=10.0, shift=shift)
    assert found[0] == 0.0


@pytest.mark.parametrize("tokens", [1, 4, 60])
def test_confident_tokens_keep_their_small_gradients(tokens):
    """p − y of a label with p near 1 would be zero or noise in fp32, were it computed by subtraction."""
    features = torch.zeros(3, tokens, 5)
    features[..., 0] = 1.0
    weight = torch.zeros(4, 5)
    weight[2, 0] = 20.0
    labels = torch.full((3, tokens), 2)
    found = fastprune.grand(features @ weight.T, labels, features)
    expected = autograd_norms(features, weight, torch.zeros(4), labels)
    assert 0 < expected.max() < 1e-5
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("shape", [(9,), (4, 7)])
def test_bf16_inputs_are_scored_in_fp32(shape):
    features, weight, bias, labels = linear_problem(shape, 16, 5, torch.bfloat16)
    logits = F.linear(features.float(), weight.float(), bias.float()).bfloat16()
    found = fastprune.grand(logits, labels, features)
    # Exactly what their values in fp32 give: nothing is computed in bfloat16.
    assert torch.equal(found, fastprune.grand(logits.float(), labels, features.float()))
    # The logits' own rounding moves p by at most |z| 2^-8 (1 − p).
    check(found, features, weight, bias, labels, scale=2.0**15 * float(logits.abs().max()))


def test_other_ignored_labels():
    features, weight, bias, labels = linear_problem((5, 6), 8, 4)
    labels[:, 3:] = 0
    found = fastprune.grand(F.linear(features, weight, bias), labels, features, ignore_index=0)
    check(found, features, weight, bias, labels, scale=10.0, ignore_index=0)


@pytest.mark.parametrize("tokens", [3, 50])
def test_padding_may_hold_anything(tokens):
    features, weight, bias, labels = linear_problem((4, tokens), 8, 6)
    labels[:, -1] = -100
    logits = F.linear(features, weight, bias)
    expected = fastprune.grand(logits, labels, features)
    logits[:, -1], features[:, -1] = float("nan"), float("inf")
    assert torch.equal(fastprune.grand(logits, labels, features), expected)
    rows = fastprune.grand(logits[:, -1], labels[:, -1], features[:, -1])
    assert rows.tolist() == [0.0] * 4


@pytest.mark.parametrize("shape", [(4,), (4, 5)])
def test_a_label_out_of_range_is_named(shape):
    features, weight, bias, labels = linear_problem(shape, 8, 6)
    labels[2] = 6
    with pytest.raises(IndexError, match=r"labels\[2.*\] is 6, but logits have 6 classes"):
        fastprune.grand(F.linear(features, weight, bias), labels, features)


def test_nothing_is_written_to_the_arguments():
    features, weight, bias, labels = linear_problem((3, 4), 5, 6)
    logits = F.linear(features, weight, bias).requires_grad_()
    before = [t.detach().clone() for t in (logits, labels, features)]
    fastprune.grand(logits, labels, features)
    assert all(torch.equal(a, b) for a, b in zip(before, (logits, labels, features), strict=True))


@pytest.mark.parametrize(
    "logits, labels, features",
    [
        ((3, 4), (3,), (2, 5)),
        ((3, 4), (3,), (3, 2, 5)),
        ((3, 2, 4), (3, 2), (3, 5)),
        ((3, 2, 2, 4), (3, 2, 2), (3, 2, 2, 5)),
    ],
)
def test_features_of_another_shape_are_named(logits, labels, features):
    with pytest.raises(ValueError, match="features must be"):
        fastprune.grand(torch.zeros(logits), torch.zeros(labels, dtype=torch.int64), torch.zeros(features))


# --- all parameters --------------------------------------------------------------------------------


def small_network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 9), nn.LayerNorm(9), nn.Tanh(), nn.Linear(9, 4))


def all_parameter_norms(model, loss, examples):
    norms = []
    for example in examples:
        parameters = [p for p in model.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(loss(model, example), parameters)
        norms.append(sum(g.double().square().sum() for g in gradients).sqrt())
    return torch.stack(norms)


def class_loss(model, batch):
    return F.cross_entropy(model(batch["x"]), batch["y"])


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("chunk_size", [None, 1, 3])
def test_per_sample_grand_is_the_norm_over_trained_parameters(frozen, chunk_size):
    model = small_network().double()
    model[0].requires_grad_(not frozen)
    batch = {"x": torch.randn(7, 6, dtype=torch.float64), "y": torch.randint(4, (7,))}
    examples = [{k: v[i : i + 1] for k, v in batch.items()} for i in range(7)]
    expected = all_parameter_norms(model, class_loss, examples)
    found = fastprune.per_sample_grand(model, class_loss, batch, chunk_size=chunk_size)
    torch.testing.assert_close(found.double(), expected, rtol=4 * EPSILON, atol=0)
    assert not found.requires_grad and all(p.grad is None for p in model.parameters())


def test_per_sample_grand_of_a_last_layer_alone_is_the_closed_form():
    model = small_network()
    for layer in model[:-1]:
        layer.requires_grad_(False)
    batch = {"x": torch.randn(7, 6), "y": torch.randint(4, (7,))}
    features = model[:-1](batch["x"])
    closed = fastprune.grand(model(batch["x"]), batch["y"], features)
    torch.testing.assert_close(fastprune.per_sample_grand(model, class_loss, batch), closed, rtol=1e-5, atol=0)


def test_per_sample_grand_without_trained_parameters_is_an_error():
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        fastprune.per_sample_grand(small_network().requires_grad_(False), class_loss, {"x": torch.zeros(1, 6)})


# --- last layers -----------------------------------------------------------------------------------


def tiny_bert(kind):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,  # a layer of the features' shape comes before the head
        max_position_embeddings=16,
        num_labels=16,
    )
    return getattr(transformers, kind)(config).eval()


def watched(model, **inputs):
    layers = LastLayers(model)
    with layers.watch():
        logits = model(**inputs).logits
    return logits, layers.features({"": logits})


def test_the_last_layer_of_bert_for_classes():
    model = tiny_bert("BertForSequenceClassification")
    ids, labels = torch.randint(40, (5, 7)), torch.randint(16, (5,))
    logits, found = watched(model, input_ids=ids)
    features, bias = found[""]
    head = model.classifier
    torch.testing.assert_close(head(features), logits)
    norms = [
        torch.stack(
            [
                g.square().sum()
                for g in torch.autograd.grad(
                    F.cross_entropy(model(input_ids=ids[i : i + 1]).logits, labels[i : i + 1]), head.parameters()
                )
            ]
        )
        .sum()
        .sqrt()
        for i in range(5)
    ]
    torch.testing.assert_close(
        fastprune.grand(logits, labels, features, bias=bias), torch.stack(norms), rtol=1e-4, atol=0
    )


def test_the_last_layer_of_bert_for_tokens():
    model = tiny_bert("BertForTokenClassification")
    logits, found = watched(model, input_ids=torch.randint(40, (5, 7)))
    torch.testing.assert_close(model.classifier(found[""][0]), logits)
    assert found[""][1] is True


def test_the_last_layer_of_gpt2_is_its_head_without_a_bias():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=30, n_positions=16, n_embd=16, n_layer=1, n_head=2, tie_word_embeddings=False
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    ids = torch.randint(30, (4, 9))
    labels = ids.clone()
    labels[:, 7:] = -100
    logits, found = watched(model, input_ids=ids)
    features, bias = found[""]
    assert bias is False
    norms = []
    for i in range(4):
        z = model(input_ids=ids[i : i + 1]).logits[0]
        loss = F.cross_entropy(z[:-1], labels[i, 1:], ignore_index=-100, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, model.lm_head.weight)
        norms.append(gradient.norm())
    closed = fastprune.grand(logits, labels, features, bias=bias, shift=1)
    torch.testing.assert_close(closed, torch.stack(norms), rtol=1e-4, atol=0)


class TwoHeads(nn.Module):
    """Two heads of one shape, and a layer of that shape before them."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(6, 4)
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4, bias=False)
        self.unused = nn.Linear(4, 4)

    def forward(self, x):
        h = self.body(x)
        second = self.second(2 * h)
        first = self.first(h)
        self.unused(h)
        return {"first": first, "second": second}


def test_heads_of_one_shape_each_have_their_own_layer():
    torch.manual_seed(0)
    model = TwoHeads()
    layers = LastLayers(model)
    for _ in range(2):  # the second batch is watched at the layers found alone
        x = torch.randn(3, 6)
        with layers.watch():
            out = model(x)
        found = layers.features(out)
        torch.testing.assert_close(found["first"][0], model.body(x))
        torch.testing.assert_close(found["second"][0], 2 * model.body(x))
        assert (found["first"][1], found["second"][1]) == (True, False)
    assert not any(module._forward_hooks for module in model.modules())


def test_logits_that_are_cast_still_have_their_layer():
    model = TwoHeads().bfloat16()
    layers = LastLayers(model)
    with layers.watch():
        out = {name: z.float() for name, z in model(torch.randn(3, 6).bfloat16()).items()}
    assert set(layers.features(out)) == {"first", "second"}


def test_logits_made_of_more_than_a_layer_have_none():
    model = TwoHeads()
    layers = LastLayers(model)
    with layers.watch():
        out = {"first": model(torch.randn(3, 6))["first"].tanh()}
    assert layers.features(out) == {}


def test_a_last_layer_called_by_name_is_found():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(4, 3)

        def forward(self, x):
            return self.last(input=x)

    torch.manual_seed(0)
    net, x = Named(), torch.randn(5, 4)
    layers = LastLayers(net)
    with layers.watch():
        logits = net(x)
    found, bias = layers.features({"": logits})[""]
    assert torch.equal(found, x) and bias
