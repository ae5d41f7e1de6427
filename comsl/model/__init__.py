"""Two pretrained parts -> one model. Importing this package registers it with transformers' Auto classes."""

from transformers import AutoConfig, AutoModelForSpeechSeq2Seq
from transformers.models.auto.modeling_auto import MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES

from .adapter import LengthAdapter, length_mask
from .configuration import ComSLConfig
from .modeling import ComSLEncoderOutput, ComSLForConditionalGeneration
from .speech import SpeechEncoder, SpeechLengthError

AutoConfig.register(ComSLConfig.model_type, ComSLConfig)
AutoModelForSpeechSeq2Seq.register(ComSLConfig, ComSLForConditionalGeneration)
# The speech recognition pipeline tells sequence-to-sequence models from CTC models by this list of class names.
MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES[ComSLConfig.model_type] = ComSLForConditionalGeneration.__name__

__all__ = [
    "ComSLConfig",
    "ComSLEncoderOutput",
    "ComSLForConditionalGeneration",
    "LengthAdapter",
    "SpeechEncoder",
    "SpeechLengthError",
    "length_mask",
]
