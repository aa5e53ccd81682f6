"""A task for lm-evaluation-harness and a model for it, both small and made here."""

import json

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

_TASK = """\
task: sums
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/data.jsonl}}, cache_dir: {folder}/cache}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{text}}}}"
doc_to_target: "{{{{target}}}}"
generation_kwargs: {{until: ["\\n\\n"], max_gen_toks: 8}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""


def write_task(folder):
    """`sums`, of six lines."""
    folder.mkdir(exist_ok=True)
    lines = [{"text": f"{i} and {i} is", "target": str(2 * i)} for i in range(6)]
    (folder / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "sums.yaml").write_text(_TASK.format(folder=folder))


def write_model(folder):
    """A model of letters, with random weights and 128 positions."""
    alphabet = ["<end>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    letters = Tokenizer(models.BPE(vocab={x: i for i, x in enumerate(alphabet)}, merges=[]))
    letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters.decoder = decoders.ByteLevel()
    special = dict.fromkeys(("eos_token", "pad_token"), "<end>")
    PreTrainedTokenizerFast(tokenizer_object=letters, **special).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(alphabet),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=128,
        eos_token_id=0,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
