import pytest
import torch

from gibbsian._errors import ArgumentError
from gibbsian.experiments.tokens import make_tokens

TEXT = "the cat and the hat, the café and the naïve 🙂 cat. " + " ".join(
    str(i * i) for i in range(900)
)


def test_bytes_are_utf8():
    tokens = make_tokens("byte", [TEXT])
    assert bytes(tokens.encode(TEXT).tolist()) == TEXT.encode()
    assert tokens.size == 256
    assert (tokens.num_bytes == 1).all()


def test_byte_pairs_cover_every_byte_once():
    tokens = make_tokens("bpe:300", [TEXT])
    assert tokens.size == 300
    numbers = tokens.encode(TEXT)
    assert int(tokens.num_bytes[numbers].sum()) == len(TEXT.encode())
    assert len(numbers) < len(TEXT.encode()) / 1.2
    # bytes that training never saw
    unseen = "\x00ÿ漢"
    assert int(tokens.num_bytes[tokens.encode(unseen)].sum()) == len(unseen.encode())


def test_byte_pairs_are_the_same_every_time():
    first, second = (make_tokens("bpe:280", [TEXT]).encode(TEXT) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("spec", ["", "bytes", "bpe", "bpe:", "bpe:x", "bpe:256", "bpe:70000"])
def test_unknown_tokens_are_refused(spec):
    with pytest.raises(ArgumentError, match=r"`tokens` must be 'byte' or 'bpe:SIZE'"):
        make_tokens(spec, [TEXT])
