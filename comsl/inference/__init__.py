"""Audio -> text: decoding, segmentation, translation of files, subtitles."""

from typing import Literal, get_args

Task = Literal["translate", "transcribe", "both"]
TASKS: tuple[Task, ...] = get_args(Task)
"""What can be asked of a recording. It stands where the command line finds it without importing anything heavy."""

Precision = Literal["float32", "bfloat16", "float16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
"""What a model can compute in when it translates; see ``comsl.inference.precision``."""

Mode = Literal["direct", "cascade", "mixed", "pooled", "memory"]
MODES: tuple[Mode, ...] = get_args(Mode)
"""How speech is translated; see ``comsl.inference.decode``."""

TranscriptSource = Literal["decoder", "ctc"]
TRANSCRIPT_SOURCES: tuple[TranscriptSource, ...] = get_args(TranscriptSource)
"""What transcribes: the decoder, or the CTC head of a model that has one."""

MEMORY_GAP = 1.0
"""Of ``comsl.inference.memory``, in nats a character."""

MixedMemory = Literal["speech", "text", "both"]
MIXED_MEMORIES: tuple[MixedMemory, ...] = get_args(MixedMemory)
"""What the decoder reads of an encoded [transcript ; speech]."""
