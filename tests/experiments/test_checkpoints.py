import pytest

from gibbsian._errors import CheckpointError
from gibbsian.experiments.checkpoints import SEAL, newest, seal, step_of


def make_checkpoint(folder, step, *, sealed=True):
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "model.safetensors").write_bytes(b"weights" * step)
    (path / "optimizer.pt").write_bytes(b"moments")
    if sealed:
        seal(path)
    return path


def test_none_before_the_first(tmp_path):
    assert newest(tmp_path / "absent") is None
    (tmp_path / "empty").mkdir()
    assert newest(tmp_path / "empty") is None


def test_newest_is_by_number_and_whole(tmp_path):
    make_checkpoint(tmp_path, 90)
    expected = make_checkpoint(tmp_path, 100)
    half = make_checkpoint(tmp_path, 110, sealed=False)
    assert newest(tmp_path) == expected
    assert step_of(expected) == 100
    assert not half.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", SEAL])
def test_a_damaged_file_is_named_with_the_way_out(tmp_path, name):
    before, damaged = make_checkpoint(tmp_path, 10), make_checkpoint(tmp_path, 20)
    content = bytearray((damaged / name).read_bytes())
    content[0] ^= 1
    (damaged / name).write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        newest(tmp_path)
    assert str(damaged / name) in str(caught.value)
    assert f"Delete the folder {damaged}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert before.exists()


def test_a_missing_file_is_named(tmp_path):
    damaged = make_checkpoint(tmp_path, 20)
    (damaged / "optimizer.pt").unlink()
    with pytest.raises(CheckpointError, match=r"optimizer\.pt is missing"):
        newest(tmp_path)
