"""An invented inspection with the shapes, ranges and texts that real ones have."""

import json
import math

import numpy as np

EVIL = "<script>alert(1)</script>"
# Everything that a tokenizer may hand over: markup, white space, pieces of bytes, both directions.
STRANGE = (
    EVIL, "\n", "\t", " \n\n", "\U0001f9ea", " שלום", "مرحبا", "\ufffd", "<0xE2>", "&amp;", "",
    "\u202e", "</script>", "<!--", "\u2028", "\x00", "\ud83d", "日本", "   ", "é",
)  # fmt: skip
TEXT = (
    "the of and to in a was he that it his her with as had she for on at by which have or from "
    "this him but all they were their one said there been if more when who would no out so what "
    "time up into than them some could then its about only little do great upon very our any has "
    "over made day old such after should before own good man these being how house door window "
    "summer night light sea ship captain water heart mother letter morning road hill river stone"
)
WORDS = TEXT.split()
QUADRANTS = ("low S, low V", "low S, high V", "high S, low V", "high S, high V")


def sample_inspection(
    *, layers=30, heads=9, length=4096, kind="causal", inputs=1, seed=0, model="sample-135m"
):
    generator = np.random.default_rng(seed)
    depth = np.linspace(0, 1, layers)[:, None]
    shape = (layers, heads)
    log_n = math.log(max(length, 2) / 2)

    fraction = 0.62 - 0.5 * depth * (1 - 0.35 * depth) + generator.normal(0, 0.14, shape)
    fraction = np.clip(fraction, 0.01, 0.97)
    entropy = fraction * log_n
    varentropy = np.abs(4.5 * fraction * (1 - fraction) * 4 + generator.normal(0, 0.7, shape))
    third = generator.normal(2.0, 6.0, shape) * varentropy / 4
    susceptibility = entropy * varentropy - third / 2
    sink = np.clip(1.25 * depth * generator.beta(2, 1.3, shape), 0, 0.99)
    zeta = np.clip((0.9 - fraction) / 0.7, 0, 1)
    log_z = 4 + 5 * depth + generator.normal(0, 1.2, shape)
    temperature = np.exp(0.9 - 1.2 * depth + generator.normal(0, 0.3, shape))
    kept = 1 + (length / 2) ** (1 - zeta) * 0.3
    maps = {
        "entropy": entropy,
        "normalized_entropy": fraction,
        "varentropy": varentropy,
        "third_cumulant": third,
        "log_partition": log_z,
        "free_energy": -log_z,
        "internal_energy": entropy - log_z,
        "effective_support": np.exp(entropy),
        "sink_mass": sink,
        "diagonal_mass": np.clip(0.4 * generator.beta(1, 6, shape), 0, 1),
        "attended_distance": 1 + (length / 3) * fraction * (1 - sink) + (length / 2) * sink,
        "susceptibility": susceptibility,
        "agreement": np.clip(0.3 + 0.5 * generator.beta(3, 2, shape), 0, 1),
        "temperature": temperature,
        "lln_temperature": temperature * 1.1,
        "cross_covariance": generator.normal(0, 0.4, shape),
        "eigenvalue_gap": np.full(shape, np.nan),
        "singular_gap": 1 - 0.9 * generator.beta(5, 2, shape),
        "zeta": zeta,
        "support_size": kept,
        "sparse_effective_support": kept**0.8,
        "predicted_support": np.exp(entropy - zeta * np.clip(susceptibility, 0, 2)),
    }
    histograms = {
        name: _histogram(generator, maps[name], edges, length)
        for name, edges in {
            "entropy": np.linspace(0, math.log(length), 41),
            "normalized_entropy": np.linspace(0, 1, 41),
            "varentropy": np.linspace(0, 12, 41),
            "zeta": np.linspace(0, 1, 41),
            "sink_mass": np.linspace(0, 1, 41),
            "support_size": np.geomspace(1, length, 37),
        }.items()
    }
    rows = min(4000, layers * heads * 15)
    layer, head = generator.integers(0, layers, rows), generator.integers(0, heads, rows)
    measured = np.exp(np.log(kept[layer, head]) + generator.normal(0, 0.7, rows)).clip(1, length)
    spread = generator.normal(-0.15, 0.1 + 0.6 * zeta[layer, head])
    spread -= 8 * np.clip(zeta[layer, head] - 0.6, 0, 1)  # where linear response ends
    return {
        "schema": 1,
        "model": model,
        "kind": kind,
        "command": f"gibbsian inspect {model} --text a-novel.txt --tokens {length}",
        "created": "2026-01-15T10:30:00+00:00",
        "versions": {"gibbsian": "0.3.0", "torch": "2.13.0"},
        "machine": {"processor": "a processor", "torch_threads": 2, "device": "cpu"},
        "schedule": {"name": "smooth_step", "low": 0.2, "high": 0.9, "zeta_max": 1.0},
        "inputs": [{"name": f"a-novel-{i}.txt", "length": length // inputs} for i in range(inputs)],
        "layers": layers,
        "heads": heads,
        "maps": {name: _listed(values) for name, values in maps.items()},
        "histograms": histograms,
        "support_points": {
            "layer": layer.tolist(),
            "head": head.tolist(),
            "zeta": zeta[layer, head].tolist(),
            "measured": measured.tolist(),
            "predicted": (measured * np.exp(spread)).tolist(),
        },
        "tokens": _tokens(generator, length, inputs) if kind == "causal" else None,
        "thresholds": {"entropy": 2.5, "varentropy": 4.0, "how": "medians over the text"},
    }


def smallest_inspection():
    """Only what the schema asks for."""
    return {
        "schema": 1,
        "model": "tiny",
        "kind": "encoder",
        "inputs": [{"name": "a", "length": 3}],
        "layers": 1,
        "heads": 2,
        "maps": {"entropy": [[0.5, None]]},
        "tokens": None,
    }


def _listed(values):
    return [[None if np.isnan(cell) else float(cell) for cell in row] for row in values]


def _histogram(generator, means, edges, rows):
    spread = (edges[-1] - edges[0]) * 0.06
    counts = []
    for layer in means:
        counts.append([])
        for mean in layer:
            drawn = generator.normal(mean, spread, min(rows, 500)).clip(edges[0], edges[-1])
            counts[-1].append(np.histogram(drawn, edges)[0].tolist())
    return {"edges": edges.tolist(), "counts": counts}


def _tokens(generator, length, inputs):
    texts, column = [], 0
    for i in range(length):
        if 3 <= i < 3 + len(STRANGE):
            text = STRANGE[i - 3]
        elif column > 90 and generator.random() < 0.08:
            text = ".\n\n" if generator.random() < 0.4 else "\n"
        elif generator.random() < 0.09:
            text = "," if generator.random() < 0.7 else "."
        else:
            text = " " + WORDS[int(len(WORDS) * generator.random() ** 1.6)]
        texts.append(text)
        column = 0 if "\n" in text else column + 1
    tokens = []
    for i, text in enumerate(texts):
        entropy = float(generator.gamma(2.2, 1.2))
        varentropy = float(abs(entropy * 1.4 + generator.normal(0, 1.5)))
        surprisal = float(generator.exponential(max(entropy, 0.05)))
        if text == EVIL:
            surprisal = 17.5
        shares = np.sort(generator.dirichlet(np.full(6, 0.4)))[::-1][:5] * 0.95
        others = [
            STRANGE[0] if i == 40 else " " + WORDS[(i * 7 + k) % len(WORDS)] for k in range(5)
        ]
        tokens.append(
            {
                "text": text,
                "surprisal": None if i == 0 else surprisal,
                "entropy": entropy,
                "varentropy": varentropy,
                "quadrant": None if i == 0 else QUADRANTS[2 * (entropy > 2.5) + (varentropy > 4.0)],
                "alternatives": [[o, float(p)] for o, p in zip(others, shares, strict=True)],
                "attention_entropy": float(3 + generator.normal(0, 0.5)),
                "input": i * inputs // length,
            }
        )
    return tokens


if __name__ == "__main__":
    print(json.dumps(sample_inspection()))  # noqa: T201
