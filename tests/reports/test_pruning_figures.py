import json
import re
import subprocess
import sys

from gibbsian.reports import pruning_figures


def test_the_picture_names_sources_and_filters(tmp_path):
    entry = {"by_keys": [10.0, 20.0]}
    sources = [
        {
            "source": name,
            "mode": mode,
            "keys_seen": [256.0, 512.0],
            "candidates": entry,
            "filters": {shown: {"reads": entry} for shown in pruning_figures._SHOWN},
        }
        for name, mode in (("Gaussian", "decode"), ("MiniLM", "both ways"))
    ]
    results, picture = tmp_path / "results.json", tmp_path / "new" / "pruning.svg"
    results.write_text(json.dumps({"sources": sources}))
    command = [sys.executable, "-m", "gibbsian.reports.pruning_figures", str(results), str(picture)]
    subprocess.run(command, check=True)
    texts = re.findall(r">([^<>\n]+)<", picture.read_text())
    assert "Gaussian" in texts
    assert "MiniLM" not in texts
    assert set(pruning_figures._SHOWN) <= set(texts)
