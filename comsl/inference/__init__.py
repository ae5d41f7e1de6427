"""Audio -> text: decoding, segmentation, translation of files, subtitles."""

from typing import Literal, get_args

Task = Literal["translate", "transcribe", "both"]
TASKS: tuple[Task, ...] = get_args(Task)
"""What can be asked of a recording. It stands where the command line finds it without importing anything heavy."""

Precision = Literal["float32", "bfloat16", "float16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
"""What a model can compute in when it translates; see ``comsl.inference.precision``."""
