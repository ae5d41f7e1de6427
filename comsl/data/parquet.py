"""The audio column of Parquet files that the ``datasets`` library wrote: a struct of a file's bytes and its path."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


def is_audio_feature(kind: pa.DataType) -> bool:
    """Whether a column's type is that of the Audio feature of ``datasets``."""
    return pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0


def holds_bytes(file: pq.ParquetFile) -> bool:
    """Whether any row's ``audio.bytes`` is more than null, by the file's statistics; True where it has none."""
    metadata = file.metadata
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            column = metadata.row_group(group).column(index)
            if column.path_in_schema == "audio.bytes":
                statistics = column.statistics
                if statistics is None or not statistics.has_null_count or statistics.null_count < column.num_values:
                    return True
    return False


def plain_audio(column: pa.StructArray, with_bytes: bool) -> tuple[pa.Array, int | None]:
    """An Audio column as bytes, or as paths where the file holds no bytes at all.

    Returns:
        The column, and the first row that has a path only although other rows have bytes.
    """
    has_path = column.type.get_field_index("path") >= 0
    paths = pc.struct_field(column, "path") if has_path else pa.nulls(len(column), pa.string())
    if not with_bytes:
        return paths, None
    contents = pc.struct_field(column, "bytes")
    row = pc.index(pc.and_(pc.is_null(contents), pc.is_valid(paths)), True).as_py()
    return contents, row if row >= 0 else None
