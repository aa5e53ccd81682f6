import pytest

from gibbsian._errors import DataError
from gibbsian.experiments.text import load_text, split


def test_embedded_text_is_the_three_novels():
    text = load_text()
    assert text.num_bytes == 883_028 + 684_768 + 673_688
    assert text.content.startswith("EMMA\n\nBy Jane Austen")
    assert "It is a truth universally acknowledged" in text.content
    assert text.sha256.startswith("329ad51a35d6b53b")


def test_files_follow_one_another(tmp_path):
    (tmp_path / "a.txt").write_bytes("één\r\n".encode())
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbftwo")
    text = load_text([str(tmp_path / "a.txt"), str(tmp_path / "b.txt")])
    assert text.content == "één\r\ntwo"
    assert text.name == "a.txt, b.txt"
    assert text.num_bytes == 10


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "must be readable files"),
        (b"", "must not be empty"),
        (b" \n\t", "must not be empty"),
        (b"caf\xe9 noir", "got byte 0xe9 at offset 3"),
    ],
)
def test_unusable_files_are_refused(tmp_path, content, message):
    path = tmp_path / "x.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_text([str(path)])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_tenth_of_fifty_blocks_is_validation():
    content = "".join(chr(0x100 + i // 7) for i in range(350))
    train, validation = split(content)
    assert [len(stretch) for stretch in train] == [63] * 5
    assert [len(stretch) for stretch in validation] == [7] * 5
    assert validation == [chr(0x100 + i) * 7 for i in (9, 19, 29, 39, 49)]
    # put back in order, nothing is lost and nothing is in both parts
    together = "".join(t + v for t, v in zip(train, validation, strict=True))
    assert together == content


@pytest.mark.parametrize("length", [1, 49, 50, 51, 1234])
def test_split_loses_nothing_at_any_length(length):
    content = "".join(chr(33 + i % 90) for i in range(length))
    train, validation = split(content)
    assert "".join(t + v for t, v in zip(train, validation, strict=True)) == content
