"""Real pretrained weights: SmolLM2-135M, grouped queries, 30 layers."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from gibbsian._errors import DataError
from gibbsian.attention import AES, LLN, AttentionStatistics
from gibbsian.experiments.pretrained import smollm2_folder
from gibbsian.integrations.transformers import load, use
from gibbsian.normalizers.schedules import Constant, LearnableRamp, SmoothStep
from tests.tolerances import assert_same_outputs

pytestmark = [pytest.mark.real, pytest.mark.slow]

TEXT = (
    "Emma Woodhouse, handsome, clever, and rich, with a comfortable home and happy disposition, "
    "seemed to unite some of the best blessings of existence; and had lived nearly twenty-one "
    "years in the world with very little to distress or vex her."
)


@pytest.fixture(scope="module")
def folder() -> Path:
    try:
        return smollm2_folder()
    except DataError as error:
        pytest.skip(str(error))


@pytest.fixture
def model(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.fixture
def tokens(folder: Path) -> Tensor:
    return AutoTokenizer.from_pretrained(folder)(TEXT, return_tensors="pt").input_ids


def test_no_sparsity_is_the_model_itself(model: PreTrainedModel, tokens: Tensor) -> None:
    with torch.no_grad():
        own = model(tokens).logits
        without = use(model, AES(schedule=Constant(zeta=0.0)))(tokens).logits
    assert_same_outputs(without, own)
    loss = torch.nn.functional.cross_entropy(own[0, :-1], tokens[0, 1:])
    assert loss < 0.5 * math.log(own.shape[-1]), "the weights are those of a language model"


def test_sparse_decoding_with_a_cache(model: PreTrainedModel, tokens: Tensor) -> None:
    use(model, AES(schedule=SmoothStep(zeta_max=0.3)))
    options = {"max_new_tokens": 6, "do_sample": False}
    cached = model.generate(tokens, **options)
    assert torch.equal(cached, model.generate(tokens, **options, use_cache=False))


def test_statistics_of_real_heads(model: PreTrainedModel, tokens: Tensor) -> None:
    use(model, AES(schedule=SmoothStep()))
    with torch.no_grad():
        attentions = model(tokens, output_attentions=True).attentions
    assert len(attentions) == 30
    for layer in attentions:
        assert layer.shape == (1, 9, tokens.shape[1], 5)
        statistics = AttentionStatistics.unstack(layer)
        assert (statistics.support_size <= statistics.num_keys).all()
        assert statistics.zeta.min() >= 0
        assert statistics.zeta.max() <= 1


def test_learned_schedules_survive_saving(
    model: PreTrainedModel, tokens: Tensor, tmp_path: Path
) -> None:
    use(model, AES(schedule=LearnableRamp(zeta_max=0.2)))
    model(tokens, labels=tokens).loss.backward()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "gibbsian_attention" in name:
                assert parameter.grad is not None
                assert parameter.shape == (9,)
                parameter.sub_(parameter.grad.sign())
        expected = model(tokens).logits
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(load(AutoModelForCausalLM, tmp_path)(tokens).logits, expected)


def test_linear_attention_runs(model: PreTrainedModel, tokens: Tensor) -> None:
    with torch.no_grad():
        assert use(model, LLN())(tokens).logits.isfinite().all()
