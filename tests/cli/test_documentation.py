import inspect
import re
from pathlib import Path

from gibbsian.cli.compare import compare_command
from gibbsian.experiments.attentions import FACTORIES
from gibbsian.experiments.config import CompareConfig
from gibbsian.experiments.recorder import Observer
from gibbsian.reports import COLUMNS

PAGE = Path(__file__).parents[2] / "docs" / "usage" / "compare.md"


def test_every_attention_and_its_parameters_are_documented():
    rows = dict(re.findall(r"^\| `([a-z-]+)` \|[^|]*\|([^|]*)\|$", PAGE.read_text(), re.MULTILINE))
    assert list(rows) == list(FACTORIES)
    for name, factory in FACTORIES.items():
        for parameter in inspect.signature(factory).parameters.values():
            assert f"`{parameter.name}={parameter.default}`" in rows[name]


def test_every_column_is_documented():
    table = PAGE.read_text().split("| column | meaning |")[1]
    for column in COLUMNS[1:]:
        assert re.search(rf"^\|[^|]*{re.escape(column.title)}[^|]*\|", table, re.MULTILINE)


def test_options_in_the_page_exist_and_its_full_form_is_the_default():
    page = PAGE.read_text()
    options = {
        f"--{name.replace('_', '-')}" for name in inspect.signature(compare_command).parameters
    }
    used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page)) - {"--nproc-per-node", "--help"}
    assert used <= options
    full = page.split("gibbsian compare \\\n")[1].split("--out")[0]
    config = CompareConfig()
    names = re.findall(r"--attention (\S+)", full)
    assert [name.partition(":")[0] for name in names] == list(config.attentions)
    assert tuple(map(int, re.findall(r"--seed (\d+)", full))) == config.seeds
    for name in ("layers", "width", "heads", "context", "steps", "batch", "model"):
        assert f"--{name} {getattr(config, name)}" in full


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL).group(1)
    code = code.replace(
        "seeds=(0,), steps=100",
        "seeds=(0,), steps=1, layers=1, width=16, heads=2, context=32, "
        "validation_windows=2, device='cpu'",
    )
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code, names)  # noqa: S102  (that is the test)
    assert isinstance(names["Quiet"](), Observer)
    assert "aes:shape=linear" in capsys.readouterr().out
    assert (tmp_path / "runs" / "short" / "results.json").exists()
