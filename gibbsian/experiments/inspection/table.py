"""statistics.parquet: one row an input, layer, head and query position."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gibbsian.experiments.inspection.measure import ROW_NAMES, LayerMeasures

_INDICES = ("input", "layer", "head", "query", "visible_keys")
_SCHEMA = pa.schema(
    [(name, pa.int32()) for name in _INDICES] + [(name, pa.float32()) for name in ROW_NAMES]
)


class RowTable:
    """Writes the file a layer at a time; close it."""

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(
            path,
            _SCHEMA,
            compression="zstd",
            use_dictionary=list(_INDICES),
            # numbers repeat in their high bytes only
            use_byte_stream_split=list(ROW_NAMES),
        )

    def add(self, sample: int, layer: int, measures: LayerMeasures) -> None:
        """Append a layer's rows, head by head."""
        heads, queries = measures.visible_keys.shape
        count = heads * queries
        columns: dict[str, Any] = {
            "input": np.full(count, sample, dtype=np.int32),
            "layer": np.full(count, layer, dtype=np.int32),
            "head": np.repeat(np.arange(heads, dtype=np.int32), queries),
            "query": np.tile(np.arange(queries, dtype=np.int32), heads),
            "visible_keys": measures.visible_keys.int().cpu().numpy().reshape(-1),
        }
        for name, numbers in measures.rows.items():
            columns[name] = numbers.float().cpu().numpy().reshape(-1)
        self._writer.write_table(pa.table(columns, schema=_SCHEMA))

    def close(self) -> None:
        """Write the end of the file."""
        self._writer.close()
