"""Two pretrained parts -> one model. Importing this package registers it with transformers' Auto classes."""

from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForSpeechSeq2Seq, AutoProcessor
from transformers.models.auto.modeling_auto import MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES

from .adapter import CTCAdapter, LengthAdapter, length_mask
from .compose import ComposeError, compose
from .configuration import ComSLConfig
from .extraction import ComSLFeatureExtractor, FeatureError
from .loading import ModelLoadError, load_model
from .modeling import ComSLEncoderOutput, ComSLForConditionalGeneration, TextLengthError
from .processing import ComSLProcessor
from .speech import SpeechEncoder, SpeechLengthError
from .vocabulary import MissingLanguage

AutoConfig.register(ComSLConfig.model_type, ComSLConfig)
AutoFeatureExtractor.register(ComSLConfig, ComSLFeatureExtractor)
AutoProcessor.register(ComSLConfig, ComSLProcessor)
AutoModelForSpeechSeq2Seq.register(ComSLConfig, ComSLForConditionalGeneration)
# The speech recognition pipeline tells sequence-to-sequence models from CTC models by this list of class names.
MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES[ComSLConfig.model_type] = ComSLForConditionalGeneration.__name__

__all__ = [
    "CTCAdapter",
    "ComSLConfig",
    "ComSLEncoderOutput",
    "ComSLFeatureExtractor",
    "ComSLForConditionalGeneration",
    "ComSLProcessor",
    "ComposeError",
    "FeatureError",
    "LengthAdapter",
    "MissingLanguage",
    "ModelLoadError",
    "SpeechEncoder",
    "SpeechLengthError",
    "TextLengthError",
    "compose",
    "length_mask",
    "load_model",
]
